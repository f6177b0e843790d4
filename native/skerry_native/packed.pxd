# Types of packed.py. Widths are fixed: Py_ssize_t has 31 bits on armv7.
cimport cython

cdef int HEAD, BESIDE

cpdef bytes merged(bytes base, bytes deletes, bytes puts)

@cython.locals(size=cython.longlong, size_to=cython.longlong, at=cython.longlong, to=cython.longlong,
               same=cython.longlong, end=cython.longlong, order=cython.int, deletes=list, puts=list)
cpdef tuple difference(bytes base, bytes target)

@cython.locals(size=cython.longlong, size_changes=cython.longlong, at=cython.longlong, change=cython.longlong,
               before=cython.longlong, spot=cython.longlong, parts=list)
cdef bytes _woven(bytes base, bytes changes, bint keep)

@cython.locals(end=cython.longlong)
cdef long long _place(const unsigned char *base, long long size, long long at, const unsigned char *other, long long key) noexcept

@cython.locals(first=cython.longlong, end=cython.longlong, end_to=cython.longlong, i=cython.longlong, odd=cython.uchar)
cdef long long _alike(const unsigned char *base, long long size, long long at, const unsigned char *target, long long size_to, long long to) noexcept

cdef bint _whole(const unsigned char *data, long long size, long long at) noexcept

@cython.locals(end=cython.longlong)
cdef long long _end(const unsigned char *data, long long size, long long at) noexcept

@cython.locals(length=cython.int, other=cython.int, i=cython.int)
cdef int _order(const unsigned char *a, long long at, const unsigned char *b, long long to) noexcept
