//! How much memory the machine has, asked before a program takes it: an allocation that fails ends a program without a word.

use crate::HostError;

/// Memory that this process may use at most, in bytes: that of the machine, or the limit of the control group if that is
/// lower. `None` where the system does not tell.
///
/// It is what there is and not what is free: other programs may end, and what they use is no property of the work.
pub fn machine_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").as_deref().and_then(total);
    // Version 2 of control groups, then version 1; "max" does not read as a number and is no limit.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = groups.into_iter().find_map(|path| read(path)?.trim().parse::<u64>().ok());
    match (machine, limit) {
        (Some(machine), Some(limit)) => Some(machine.min(limit)),
        (machine, limit) => machine.or(limit),
    }
}

/// Memory that this process could take now without taking it from another, in bytes: what the system calls available, or what is
/// left of the limit of the control group. `None` where the system does not tell.
///
/// It changes with what other programs do, so it may decide how work is done but never a result.
pub fn free_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").as_deref().and_then(|text| line(text, "MemAvailable:"));
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let groups = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    let left =
        groups.into_iter().find_map(|(limit, used)| Some(number(limit)?.saturating_sub(number(used)?)));
    match (machine, left) {
        (Some(machine), Some(left)) => Some(machine.min(left)),
        (machine, left) => machine.or(left),
    }
}

/// The line `MemTotal:` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    line(meminfo, "MemTotal:")
}

/// A line of `/proc/meminfo`, in bytes.
fn line(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Refuses work that takes more memory than the machine has. Where the system does not tell how much that is, only
/// what no machine of today has is refused: 2⁴⁶ bytes, 64 TiB.
///
/// `what` names the work with its sizes, `remedy` says what to change; `bytes` is real so that no product of sizes can run
/// over.
///
/// # Errors
/// [`HostError::Memory`].
pub fn require_memory(what: &str, bytes: f64, remedy: &str) -> Result<(), HostError> {
    let has = machine_memory().unwrap_or(1 << 46) as f64;
    if bytes <= has {
        return Ok(());
    }
    Err(HostError::Memory {
        what: what.into(),
        needed: bytes_in_words(bytes),
        found: bytes_in_words(has),
        remedy: remedy.into(),
    })
}

/// A number of bytes as people say it: `1.5 GiB`.
pub fn bytes_in_words(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power =
        (0..units.len()).take_while(|power| bytes >= 1024_f64.powi(*power as i32)).last().unwrap_or(0);
    let number = bytes / 1024_f64.powi(power as i32);
    if number >= 1e5 {
        format!("{number:.1e} {}", units[power])
    } else {
        format!("{number:.1} {}", units[power])
    }
}

/// A size as people write it, in bytes: `2GiB`, `1.5 GB`, `800M`, `4096`. Units of two and of ten are told apart by their `i`, and a
/// bare letter is that of two. `None` for what is no size.
pub fn bytes_from_words(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let power = |letter: &str| ["", "k", "m", "g", "t"].iter().position(|known| *known == letter);
    let factor = match unit.strip_suffix('b').unwrap_or(&unit) {
        letter if unit.ends_with("b") && !letter.ends_with('i') => 1000_f64.powi(power(letter)? as i32),
        letter => 1024_f64.powi(power(letter.strip_suffix('i').unwrap_or(letter))? as i32),
    };
    let bytes = number * factor;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_total_is_read() {
        assert_eq!(total("MemFree: 3 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("MemTotal: much\n"), None);
        assert!(machine_memory().is_none_or(|bytes| bytes > 1 << 24));
    }

    #[test]
    fn what_fits_passes_and_what_does_not_says_both_sizes() {
        require_memory("nothing", 0.0, "").unwrap();
        let error =
            require_memory("a model of 1 parameter", 2f64.powi(60), "take less").unwrap_err().to_string();
        assert!(error.contains("a model of 1 parameter") && error.contains("1.0 EiB"), "{error}");
        assert!(error.contains("this machine has") && error.ends_with("take less"), "{error}");
        assert!(require_memory("", f64::INFINITY, "").is_err() && require_memory("", f64::NAN, "").is_err());
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("2GiB", 2 << 30),
            ("1.5 GB", 1_500_000_000),
            ("800M", 800 << 20),
            ("4096", 4096),
            ("7b", 7),
            ("1 kib", 1024),
        ] {
            assert_eq!(bytes_from_words(text), Some(bytes), "{text}");
        }
        for text in ["", "GiB", "2 apples", "-1", "1e400GiB", "99999999999999999T", "2iB2"] {
            assert_eq!(bytes_from_words(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_said_in_the_unit_that_suits_them() {
        assert_eq!(bytes_in_words(0.0), "0.0 B");
        assert_eq!(bytes_in_words(1536.0), "1.5 KiB");
        assert_eq!(bytes_in_words(3.0 * 2f64.powi(30)), "3.0 GiB");
        assert_eq!(bytes_in_words(1e30), "8.7e11 EiB");
    }
}
