//! The `moescope` program: reads the command line, runs one command, and turns its outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use moescope::cli::Cli;
use moescope::exit::Exit;

/// Training frees and takes large blocks all the time, on many threads; this allocator gives them back without going
/// to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            moescope::output::message(format_args!("moescope: {}", failure.message));
            failure.exit.into()
        }
    }
}
