//! Ctrl-C and SIGTERM: an orderly end that keeps the work.
//!
//! The handlers only set flags. What is being computed looks at the flag where it can end whole: after a training
//! step, before the next model.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::Exit;
use crate::failure::Failure;

/// What is said of work that was stopped and has left nothing.
pub const NOTHING_WRITTEN: &str =
    "interrupted before the end; nothing was written, and the same command begins anew";

/// Wish of the user or of the system that the program end soon, with its work saved. Clones share the wish; the
/// default one listens to nothing and never wishes.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens for Ctrl-C and SIGTERM. The first asks for an orderly end; a second Ctrl-C ends the program at once.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub fn listen() -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the shutdown sees the flag as it was before this signal.
            let code = Exit::Interrupted as i32;
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupt.flag))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.flag))?;
        }
        Ok(interrupt)
    }

    /// The flag that long work looks at; it goes up once and never down.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The same flag, for what keeps it: a subject ends its pass at the next block.
    pub fn shared_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// The failure of work that was stopped and has nothing to go on from, or else the failure itself.
    pub fn or(&self, failure: Failure) -> Failure {
        match self.flag().load(Ordering::Relaxed) {
            true => Failure::interrupted(NOTHING_WRITTEN, self.exit()),
            false => failure,
        }
    }

    /// How the program ends after an interruption: resumable after SIGTERM, interrupted after Ctrl-C. The last signal
    /// counts.
    pub fn exit(&self) -> Exit {
        if self.signal.load(Ordering::Relaxed) == SIGTERM as usize {
            Exit::Resumable
        } else {
            Exit::Interrupted
        }
    }
}

/// While it lives, a wish to stop ends the program at once.
///
/// For long computing that looks at no flag: nothing is being written, and what is to be kept is on the disk or is put there first.
pub struct AtOnce {
    over: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

/// How long a wish may wait.
const GLANCE: Duration = Duration::from_millis(50);

impl Interrupt {
    /// Begins to end the program at a wish to stop, with this message and the exit code of the signal.
    ///
    /// The wish is heard within a twentieth of a second. Drop what is returned before anything is written: a file that is half put in
    /// place would stay so.
    pub fn at_once(&self, message: String) -> AtOnce {
        self.at_once_after(move || message)
    }

    /// As [`at_once`](Self::at_once), after `last` has kept what there is to keep and told what to say.
    pub fn at_once_after(&self, last: impl FnOnce() -> String + Send + 'static) -> AtOnce {
        let (over, interrupt) = (Arc::new(AtomicBool::new(false)), self.clone());
        let ended = Arc::clone(&over);
        let watch = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if interrupt.flag().load(Ordering::Relaxed) {
                    crate::output::message(format_args!("moescope: {}", last()));
                    std::process::exit(interrupt.exit() as i32);
                }
                std::thread::park_timeout(GLANCE);
            }
        });
        AtOnce { over, watch: Some(watch) }
    }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            // It ends at its next glance; a panic in it has been told.
            let _ = watch.join();
        }
    }
}
