"""Every bound of a build, with its unit."""

COMMAND_TIMEOUT_S = 3600.0  # one unit; a unit may ask for more by timeout_s
COMMAND_TIMEOUT_S_MAX = 6 * 3600.0
FETCH_TIMEOUT_S = 900.0
FETCH_TRIES_MAX = 3
FETCH_RETRY_S = 2.0  # doubled each time, jittered
REMOTE_TIMEOUT_S = 20.0
DECLARATION_BYTES_MAX = 256 * 1024
ENTRY_BYTES_MAX = 8 * 1024 * 1024  # one line of ac/
BLOB_BYTES_MAX = 4 * 1024**3  # one file of cas/
CHUNK_BYTES = 1024 * 1024
LOG_LINES_SHOWN = 40
LINE_SHOWN = 300  # characters of one line of a program that failed; pip lists every version
GC_GRACE_S = 3600.0  # what a build under way may just have written
SOURCE_DATE_EPOCH = 1_700_000_000  # of every command and every file it sees
