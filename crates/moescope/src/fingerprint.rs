//! A number that tells a model from another one.

use std::fmt::Write;

use moescope_host::{hash_text, read_text};
use moescope_weights::Weights;

use crate::checkpoint::Checkpoint;
use crate::failure::Failure;

/// Numbers of each tensor that are looked at.
const SAMPLE: usize = 64;
/// Longest row of which the first is looked at; of experts that are stored together the shape has to do.
const LONGEST: usize = 1 << 17;

/// Hash of the configuration, and of name, shape, format and first numbers of every tensor.
///
/// Two models with the same hash may differ in numbers that were not looked at: it is meant to notice that a name stands for
/// something else than before, at the cost of a few reads.
///
/// # Errors
/// If the files cannot be read.
pub fn of_model(checkpoint: &Checkpoint) -> Result<String, Failure> {
    let weights = Weights::open(checkpoint.path())?;
    let mut text = match checkpoint.companion("config.json") {
        Some(file) => read_text(&file)?,
        None => String::new(),
    };
    let mut names: Vec<&str> = weights.names().collect();
    names.sort_unstable();
    for name in names {
        let tensor = weights.tensor(name)?;
        let said = write!(text, "\n{name} {:?} {:?}", tensor.shape(), tensor.format());
        said.expect("text takes whatever is written to it");
        let rows = tensor.shape().first().copied().unwrap_or(1);
        let row = tensor.len() / rows.max(1);
        if rows == 0 || row == 0 || row > LONGEST {
            continue;
        }
        let looked_at = (SAMPLE / row).clamp(1, rows);
        let mut numbers = vec![0.0_f32; looked_at * row];
        tensor.read_rows(0..looked_at, &mut numbers)?;
        for number in numbers.iter().take(SAMPLE) {
            write!(text, " {:x}", number.to_bits()).expect("text takes whatever is written to it");
        }
    }
    Ok(hash_text(&text))
}
