int square(int n);
const char *where(void);
