#include "hot.h"
#include "table.h"

int square(int n) { return table[n & 15]; }
/* A path of the building machine would end up here. */
const char *where(void) { return __FILE__; }
