# Types of wellformed.py. Widths are fixed: Py_ssize_t has 31 bits on armv7.
cimport cython

cdef int CUT_VALUE, CUT_HEAD, CUT_STRING, LENGTH, KEY, PROMISE, DEPTH, TAG, SIMPLE, ITEMS, AFTER, TEXT
cdef int SHIFT
cdef long long COUNT

@cython.locals(end=cython.longlong, at=cython.longlong)
cpdef long long scan(bytes data, int depth_max, int items_max) except *

@cython.locals(start=cython.longlong, major=cython.int, info=cython.int, value=cython.longlong, width=cython.int,
               i=cython.longlong)
cdef long long _value(const unsigned char *data, long long size, long long at, int depth, long long items, bint key) noexcept

@cython.locals(used=cython.longlong, end=cython.longlong, _=cython.longlong)
cdef long long _children(const unsigned char *data, long long size, long long at, int depth, long long items, long long pairs, bint is_map) noexcept

@cython.locals(first=cython.int, low=cython.int, high=cython.int, more=cython.int, _=cython.int)
cdef bint _utf8(const unsigned char *data, long long at, long long end) noexcept
