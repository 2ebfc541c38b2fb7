//! Statistics: intervals, tests and corrections, each in its own file.
