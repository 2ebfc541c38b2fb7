//! The resume state of a run: one file that holds all that the next step needs.
//!
//! Layout, all numbers little-endian: the mark, the length of the header (u64), the header (JSON), then `f32` weights, first
//! moments and second moments of each parameter in the model's order, the selection biases of each layer that has them, the
//! metrics of each step, and at the end the BLAKE3 of everything before it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use moescope_host::replace;
use serde::{Deserialize, Serialize};

use crate::batches::fingerprint;
use crate::differences::differences;
use crate::step::State;
use crate::{Batches, StepMetrics, TrainError, TrainPlan, files};

/// First bytes of a resume state; the last one is the version of the layout.
const MARK: &[u8; 16] = b"moescope-resume2";

/// What the numbers in the file are.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    plan: TrainPlan,
    data: String,
    step: u64,
    parameters: Vec<(String, usize)>, // [parameter] → name, entries
    biases: Vec<(usize, usize)>,      // layer, experts
}

/// Writes the state of a run, replacing an earlier one in one go.
///
/// # Errors
/// [`TrainError::Host`]; the earlier state then stays.
pub(crate) fn save_state(
    path: &Path,
    plan: &TrainPlan,
    batches: &dyn Batches,
    state: &State,
) -> Result<(), TrainError> {
    let header = Header::of(plan, batches, state);
    Ok(replace(path, |file| {
        let mut file = Hashing::new(file);
        write_state(&mut file, &header, state)?;
        let checksum = file.hasher.finalize();
        file.inner.write_all(checksum.as_bytes())
    })?)
}

/// Reads the state of a run; `None` where there is none.
///
/// # Errors
/// [`TrainError::Damaged`] for a file that is no whole resume state, [`TrainError::OtherPlan`] and
/// [`TrainError::OtherData`] for one of another run, [`TrainError::File`] when it cannot be read.
pub(crate) fn load_state(
    path: &Path,
    plan: &TrainPlan,
    batches: &dyn Batches,
) -> Result<Option<State>, TrainError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| files::failure("open", path, source))?,
    };
    let damaged = |problem: String| TrainError::Damaged { path: path.into(), problem };
    let length = file.metadata().map_err(|source| files::failure("read", path, source))?.len();
    let mut file = Hashing::new(BufReader::new(file));
    let header = read_header(&mut file, length).map_err(damaged)?;
    header.require_same(path, plan, batches)?;
    let mut state = State::start(plan)?;
    header.require_sizes(&state).map_err(damaged)?;
    read_state(&mut file, &header, &mut state).map_err(|error| damaged(cut(&error)))?;
    let wanted = file.hasher.finalize();
    let mut found = Vec::new();
    file.inner.read_to_end(&mut found).map_err(|source| files::failure("read", path, source))?;
    if found != wanted.as_bytes() {
        return Err(damaged("its checksum does not fit its content".into()));
    }
    Ok(Some(state))
}

impl Header {
    fn of(plan: &TrainPlan, batches: &dyn Batches, state: &State) -> Header {
        let parameters = state.model.parameters().iter();
        let layers = 0..plan.description.feed_forward.len();
        Header {
            plan: plan.clone(),
            data: fingerprint(batches, plan),
            step: state.step,
            parameters: parameters.map(|p| (p.name.clone(), p.tensor.len())).collect(),
            biases: layers.filter_map(|l| Some((l, state.model.selection_bias(l)?.len()))).collect(),
        }
    }

    fn require_same(&self, path: &Path, plan: &TrainPlan, batches: &dyn Batches) -> Result<(), TrainError> {
        let differences = differences(&self.plan, plan);
        if !differences.is_empty() {
            return Err(TrainError::OtherPlan { path: path.into(), differences: differences.join(", ") });
        }
        if self.data != fingerprint(batches, plan) {
            return Err(TrainError::OtherData { path: path.into() });
        }
        Ok(())
    }

    /// Guards against a file of another program version, and against a header that was changed: its sizes are used before
    /// the checksum at the end of the file has been seen.
    fn require_sizes(&self, state: &State) -> Result<(), String> {
        let wanted = state.model.parameters().iter().map(|p| (p.name.clone(), p.tensor.len()));
        let layers = &self.plan.description.feed_forward;
        let experts =
            |layer: usize| layers.get(layer)?.routed().filter(|r| r.router.kind.scores()).map(|r| r.experts);
        let biases = self.biases.iter().all(|(layer, length)| experts(*layer) == Some(*length));
        if !self.parameters.iter().cloned().eq(wanted) || !biases || self.step > self.plan.steps {
            return Err("its sizes are not those of this plan; it is of another program version".into());
        }
        Ok(())
    }
}

fn write_state(file: &mut impl Write, header: &Header, state: &State) -> io::Result<()> {
    let json = serde_json::to_vec(header)?;
    file.write_all(MARK)?;
    file.write_all(&(json.len() as u64).to_le_bytes())?;
    file.write_all(&json)?;
    for (parameter, moments) in state.model.parameters().iter().zip(&state.moments) {
        write_floats(file, parameter.tensor.data())?;
        write_floats(file, &moments.first)?;
        write_floats(file, &moments.second)?;
    }
    for (layer, _) in &header.biases {
        write_floats(file, state.model.selection_bias(*layer).unwrap_or_default())?;
    }
    for row in &state.metrics {
        row_bytes(row).iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))?;
    }
    Ok(())
}

fn read_header(file: &mut impl Read, length: u64) -> Result<Header, String> {
    let mut start = [0; MARK.len() + 8];
    file.read_exact(&mut start).map_err(|error| cut(&error))?;
    let (mark, json_length) = start.split_at(MARK.len());
    if mark != MARK {
        return Err("it does not begin like a resume state of this program version".into());
    }
    let json_length = u64::from_le_bytes(json_length.try_into().expect("eight bytes are left"));
    if json_length > length {
        return Err(format!("it has {length} bytes, but its header alone claims {json_length}"));
    }
    let mut json = vec![0; json_length as usize];
    file.read_exact(&mut json).map_err(|error| cut(&error))?;
    serde_json::from_slice(&json).map_err(|error| format!("its header cannot be read ({error})"))
}

fn read_state(file: &mut impl Read, header: &Header, state: &mut State) -> io::Result<()> {
    for (parameter, moments) in state.model.parameters_mut().iter_mut().zip(&mut state.moments) {
        read_floats(file, parameter.tensor.data_mut())?;
        read_floats(file, &mut moments.first)?;
        read_floats(file, &mut moments.second)?;
    }
    for (layer, experts) in &header.biases {
        let mut bias = vec![0.0; *experts];
        read_floats(file, &mut bias)?;
        state.model.set_selection_bias(*layer, bias);
    }
    for _ in 0..header.step {
        let mut words = [0; 9];
        for word in &mut words {
            let mut bytes = [0; 8];
            file.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        state.metrics.push(row_from(words));
    }
    state.step = header.step;
    Ok(())
}

/// A row as words whose bits are kept; text would round.
fn row_bytes(row: &StepMetrics) -> [u64; 9] {
    [
        row.step,
        row.loss.to_bits(),
        row.balance_loss.to_bits(),
        row.z_loss.to_bits(),
        row.gradient_norm.to_bits(),
        row.learning_rate.to_bits(),
        row.load_max_violation.to_bits(),
        row.dead_experts.to_bits(),
        row.tokens,
    ]
}

fn row_from(words: [u64; 9]) -> StepMetrics {
    let real = |index: usize| f64::from_bits(words[index]);
    StepMetrics {
        step: words[0],
        loss: real(1),
        balance_loss: real(2),
        z_loss: real(3),
        gradient_norm: real(4),
        learning_rate: real(5),
        load_max_violation: real(6),
        dead_experts: real(7),
        tokens: words[8],
    }
}

/// Floats that are turned into bytes at a time.
const CHUNK: usize = 4096;

fn write_floats(file: &mut impl Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * CHUNK);
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn read_floats(file: &mut impl Read, values: &mut [f32]) -> io::Result<()> {
    let mut bytes = vec![0; 4 * CHUNK];
    for chunk in values.chunks_mut(CHUNK) {
        let bytes = &mut bytes[..4 * chunk.len()];
        file.read_exact(bytes)?;
        for (value, bytes) in chunk.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
        }
    }
    Ok(())
}

fn cut(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early; it was cut off".into(),
        _ => error.to_string(),
    }
}

/// Hashes all that passes through.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Hashing { inner, hasher: blake3::Hasher::new() }
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Family, Pattern, plan};
    use std::path::PathBuf;

    struct Saved {
        _folder: tempfile::TempDir,
        path: PathBuf,
        plan: TrainPlan,
        batches: Pattern,
        state: State,
    }

    fn saved() -> Saved {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resume.state");
        let mut plan = plan(Family::Moe, 4);
        plan.balance.loss_free = Some(0.01);
        let batches = Pattern::of(&plan);
        let mut state = State::start(&plan).unwrap();
        for step in 0..2 {
            state.advance(&moescope_engine::Cpu, &plan, &batches.batch(step)).unwrap();
        }
        save_state(&path, &plan, &batches, &state).unwrap();
        Saved { _folder: folder, path, plan, batches, state }
    }

    fn error(saved: &Saved, plan: &TrainPlan, batches: &Pattern) -> String {
        load_state(&saved.path, plan, batches).unwrap_err().to_string()
    }

    #[test]
    fn a_state_comes_back_bit_for_bit() {
        let saved = saved();
        let loaded = load_state(&saved.path, &saved.plan, &saved.batches).unwrap().unwrap();
        assert_eq!((loaded.step, &loaded.metrics), (2, &saved.state.metrics));
        assert_eq!(loaded.moments, saved.state.moments);
        for (found, wanted) in loaded.model.parameters().iter().zip(saved.state.model.parameters()) {
            assert_eq!(found.tensor, wanted.tensor, "{}", found.name);
        }
        assert!(saved.state.model.selection_bias(0).is_some_and(|bias| bias.iter().any(|b| *b != 0.0)));
        assert_eq!(loaded.model.selection_bias(0), saved.state.model.selection_bias(0));
    }

    #[test]
    fn a_header_that_claims_other_sizes_is_refused_before_they_are_used() {
        let saved = saved();
        let header = || Header::of(&saved.plan, &saved.batches, &saved.state);
        let refused = |header: Header| header.require_sizes(&saved.state).is_err();
        assert!(!refused(header()));
        assert!(refused(Header { biases: vec![(0, usize::MAX)], ..header() }));
        assert!(refused(Header { biases: vec![(9, 4)], ..header() }));
        assert!(refused(Header { step: u64::MAX, ..header() }));
        assert!(refused(Header { parameters: Vec::new(), ..header() }));
    }

    #[test]
    fn no_file_is_no_state() {
        let saved = saved();
        std::fs::remove_file(&saved.path).unwrap();
        assert!(load_state(&saved.path, &saved.plan, &saved.batches).unwrap().is_none());
    }

    #[test]
    fn a_cut_file_is_refused_wherever_it_is_cut() {
        let saved = saved();
        let bytes = std::fs::read(&saved.path).unwrap();
        for kept in [0, 10, 20, 100, bytes.len() / 2, bytes.len() - 32, bytes.len() - 1] {
            std::fs::write(&saved.path, &bytes[..kept]).unwrap();
            let error = error(&saved, &saved.plan, &saved.batches);
            assert!(
                error.contains("cannot be resumed from") && error.contains("delete it"),
                "{kept}: {error}"
            );
        }
    }

    #[test]
    fn one_changed_bit_is_refused() {
        let saved = saved();
        let mut bytes = std::fs::read(&saved.path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&saved.path, &bytes).unwrap();
        assert!(error(&saved, &saved.plan, &saved.batches).contains("checksum"));
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let saved = saved();
        std::fs::write(&saved.path, [b'x'; 4000]).unwrap();
        assert!(error(&saved, &saved.plan, &saved.batches).contains("does not begin like"));
    }

    #[test]
    fn another_plan_is_refused_with_the_fields_that_differ() {
        let saved = saved();
        let mut plan = saved.plan.clone();
        (plan.learning_rate, plan.seed) = (0.5, 8);
        let error = error(&saved, &plan, &saved.batches);
        assert!(error.contains("`seed` is 7 there and 8 here"), "{error}");
        assert!(error.contains("`learning_rate`") && !error.contains("`steps`"), "{error}");
    }

    #[test]
    fn other_data_are_refused() {
        let saved = saved();
        let other = Pattern { seed: 99, ..saved.batches.clone() };
        assert!(error(&saved, &saved.plan, &other).contains("other data"));
    }
}
