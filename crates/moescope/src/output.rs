//! Lines on the standard output that survive a reader who has gone away.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use crate::exit::Exit;

/// Prints one line. If the reader has closed the pipe, as `head` does, the program ends quietly; if the output cannot be written
/// for another reason, such as a full disk, it says so and ends with the code for wrong input.
pub fn line(text: Arguments<'_>) {
    let mut output = std::io::stdout();
    let Err(error) = writeln!(output, "{text}").and_then(|()| output.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(Exit::Done as i32);
    }
    message(format_args!("moescope: cannot write to the standard output: {error}"));
    std::process::exit(Exit::Input as i32);
}

/// Prints one line to the error stream. Messages are for people who watch; if nobody does, the work goes on.
pub fn message(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints one line of data, formatted like `println!`.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(format_args!($($part)*)) };
}
