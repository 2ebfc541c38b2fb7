use serde::{Deserialize, Serialize};

use crate::machine_memory;

/// The machine that something was computed on. It decides how long work takes; within one instruction set it does not
/// decide a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor; `unknown` where the system does not tell.
    pub processor: String,
    /// Instruction set, such as `x86_64`.
    pub architecture: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Memory in bytes; absent where the system does not tell.
    pub memory: Option<u64>,
    /// Operating system with its version, as far as known.
    pub system: String,
}

impl Machine {
    /// The machine that the program runs on.
    pub fn here() -> Machine {
        Machine {
            processor: read("/proc/cpuinfo")
                .and_then(|text| value(&text, "model name", ':'))
                .unwrap_or_else(|| "unknown".into()),
            architecture: std::env::consts::ARCH.into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: machine_memory(),
            system: system(),
        }
    }
}

/// Name and version of the system, and of its kernel.
fn system() -> String {
    let name = read("/etc/os-release").and_then(|text| value(&text, "PRETTY_NAME", '='));
    let name = name.unwrap_or_else(|| std::env::consts::OS.into());
    match read("/proc/sys/kernel/osrelease") {
        Some(kernel) => format!("{name}, kernel {}", kernel.trim()),
        None => name,
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of the first line `KEY SEPARATOR VALUE`, without blanks and quotes around it.
fn value(text: &str, key: &str, separator: char) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = pairs.into_iter().find(|(found, _)| found.trim() == key)?;
    Some(value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_key() {
        let text = "processor\t: 0\nmodel name\t: Fast CPU @ 2 GHz\nmodel name\t: Other\n";
        assert_eq!(value(text, "model name", ':').unwrap(), "Fast CPU @ 2 GHz");
        assert_eq!(
            value("A=1\nPRETTY_NAME=\"Some System 1\"\n", "PRETTY_NAME", '=').unwrap(),
            "Some System 1"
        );
        assert_eq!(value("nothing", "x", '='), None);
    }

    #[test]
    fn every_machine_has_a_core_and_a_name() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && !machine.system.is_empty() && !machine.processor.is_empty());
    }
}
