//! Recording, stopping, going on and reading.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use moescope_base::{
    HookPoint, Observation, Request, Site, Subject, SubjectError, SubjectShape, Value, ValueData,
};

use super::*;
use crate::TraceError;
use crate::testing::Planted;

/// Windows of 4 tokens: three documents of three, one and four windows.
fn job(points: &[&str], kept: Kept) -> ActivationJob {
    let mut windows = Vec::new();
    for (document, count) in [(0, 3), (1, 1), (2, 4)] {
        for window in 0..count {
            let start = 4 * window;
            let ids = (0..4).map(|i| (start * 5 + i * i + document) % 4).collect();
            windows.push(CorpusWindow { document, start, ids });
        }
    }
    ActivationJob {
        points: points.iter().map(|name| name.parse().unwrap()).collect(),
        kept,
        windows,
        documents: ["a", "b", "c"].map(|name| DocumentLabel { domain: "d".into(), name: name.into() }).into(),
        domain_names: vec!["d".into()],
        tokens_left_out: 5,
        part_windows: 3,
        model: ("planted".into(), "hash".into()),
        code_version: "0.1.0".into(),
    }
}

const RESIDUAL: &str = "blocks.0.hook_resid_post";
const INDICES: &str = "blocks.1.mlp.router.hook_indices";
const EXPERT: &str = "blocks.1.mlp.experts.2.hook_post";
const OTHER: &str = "blocks.1.mlp.experts.3.hook_post";
const ALL: [&str; 4] = [RESIDUAL, INDICES, EXPERT, OTHER];
const FEW: Kept = Kept::Sample { rows: 7, seed: 5 };

/// The planted subject with values that depend on the tokens alone, not on their place in the batch; it stops answering after some
/// passes.
struct Steady {
    inner: Planted,
    passes: usize,
}

impl Steady {
    fn for_passes(passes: usize) -> Steady {
        Steady { inner: Planted::new(), passes }
    }
}

impl Subject for Steady {
    fn shape(&self) -> &SubjectShape {
        self.inner.shape()
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        if self.passes == 0 {
            return Err(SubjectError::Input { reason: "pulled the plug".into() });
        }
        self.passes -= 1;
        let mut seen = self.inner.run(request)?;
        let ids = request.tokens.ids();
        for (point, value) in seen.values.iter_mut().filter(|(point, _)| point.site().in_expert()) {
            let rows = value.rows().unwrap().to_vec();
            let numbers = rows.iter().flat_map(|token| [0.5 + ids[*token as usize] as f32, -1.0]).collect();
            *value = Value::new(*point, vec![rows.len(), 2], ValueData::Real(numbers), Some(rows)).unwrap();
        }
        let sequences = ids.chunks(request.tokens.positions());
        seen.loss = sequences.flat_map(|ids| &ids[1..]).map(|id| *id as f32).collect();
        Ok(seen)
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        self.inner.unembed(residual)
    }
}

fn record(
    job: &ActivationJob,
    sequences: usize,
    folder: &Path,
    resume: bool,
) -> Result<RecordOutcome, TraceError> {
    let go = AtomicBool::new(false);
    record_activations(
        &mut Steady::for_passes(usize::MAX),
        job,
        sequences,
        folder,
        resume,
        &mut |_, _| {},
        &go,
    )
}

/// Every file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(entry).collect()
}

/// The files that a job leaves when nothing comes in between.
fn undisturbed(job: &ActivationJob, sequences: usize) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(record(job, sequences, folder.path(), false).unwrap(), RecordOutcome::Done(_)));
    files(folder.path())
}

#[test]
fn the_size_of_passes_changes_no_byte() {
    for kept in [Kept::Whole, FEW] {
        let job = job(&ALL, kept);
        let one = undisturbed(&job, 1);
        assert!(one.contains_key("manifest.json") && one.contains_key("part-00002.safetensors"));
        assert!(!one.contains_key("state.safetensors"));
        for sequences in [2, 3, 5, 100] {
            assert!(undisturbed(&job, sequences) == one, "{kept:?} {sequences}");
        }
    }
}

#[test]
fn a_recording_that_broke_off_anywhere_goes_on_to_the_same_bytes() {
    for (kept, points) in [(Kept::Whole, &ALL[..]), (FEW, &ALL[..]), (FEW, &ALL[..2]), (FEW, &ALL[2..])] {
        let job = job(points, kept);
        let wanted = undisturbed(&job, 2);
        for passes in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            // A failure in the middle of a pass, as a kill would be: nothing is saved on the way out.
            let mut failing = Steady::for_passes(passes);
            let go = AtomicBool::new(false);
            let run = record_activations(&mut failing, &job, 2, folder.path(), false, &mut |_, _| {}, &go);
            if run.is_err() {
                assert!(matches!(ActivationFolder::open(folder.path()), Err(TraceError::Unfinished { .. })));
            }
            std::fs::write(folder.path().join(".part-00009.safetensors.1.unfinished"), "half").unwrap();
            // Asked to stop after one more pass, which saves.
            let stop = AtomicBool::new(false);
            let mut watch = |done: usize, _: usize| {
                let late = done > 2 * passes.min(1);
                stop.store(late, std::sync::atomic::Ordering::Relaxed);
            };
            let mut subject = Steady::for_passes(usize::MAX);
            record_activations(&mut subject, &job, 1, folder.path(), true, &mut watch, &stop).unwrap();
            assert!(matches!(record(&job, 3, folder.path(), true).unwrap(), RecordOutcome::Done(_)));
            assert!(files(folder.path()) == wanted, "{kept:?} {points:?} after {passes}");
        }
    }
}

#[test]
fn sampled_rows_are_those_of_the_whole_to_the_bit() {
    let (whole, sample) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    record(&job(&ALL, Kept::Whole), 3, whole.path(), false).unwrap();
    record(&job(&ALL, FEW), 3, sample.path(), false).unwrap();
    let open = |folder: &tempfile::TempDir| ActivationFolder::open(folder.path()).unwrap();
    let (whole, sample) = (open(&whole), open(&sample));
    let mut tokens = Vec::new();
    for name in ALL {
        let point: HookPoint = name.parse().unwrap();
        let (all, some) = (whole.rows(point).unwrap(), sample.rows(point).unwrap());
        assert_eq!(all.shape, some.shape);
        let expert = point.site().in_expert();
        assert_eq!(some.documents.len(), 7, "{name}");
        assert!(all.documents.len() > 7 && (expert || all.documents.len() == 32));
        let place = |rows: &SiteRows, i: usize| (rows.documents[i], rows.positions[i], rows.token_ids[i]);
        let width: usize = all.shape.iter().product();
        let row = |rows: &SiteRows, i: usize| match &rows.data {
            ValueData::Real(x) => ValueData::Real(x[i * width..(i + 1) * width].to_vec()),
            ValueData::Integer(x) => ValueData::Integer(x[i * width..(i + 1) * width].to_vec()),
        };
        for i in 0..7 {
            let found = (0..all.documents.len()).find(|j| place(&all, *j) == place(&some, i)).unwrap();
            assert_eq!(row(&all, found), row(&some, i), "{name} row {i}");
        }
        if !expert {
            tokens.push((some.documents.clone(), some.positions.clone()));
        }
        assert!((1..7).all(|i| place(&some, i - 1) < place(&some, i)), "in the order of the text");
    }
    assert_eq!(tokens[0], tokens[1], "the same tokens at every site");
    assert_eq!(sample.documents().unwrap()[2], DocumentLabel { domain: "d".into(), name: "c".into() });
    // What an expert has is what it saw: the planted rows end in -1.
    let rows = whole.rows(EXPERT.parse().unwrap()).unwrap();
    let ValueData::Real(numbers) = &rows.data else { panic!("real") };
    assert!(numbers.chunks(2).all(|row| row[1] == -1.0));
    assert!(rows.token_ids.iter().all(|id| id % 4 == 2 || (id + 1) % 4 == 2));
}

#[test]
fn windows_without_a_drawn_token_are_passed_over_where_no_expert_asks() {
    let plain = job(&[RESIDUAL], Kept::Sample { rows: 2, seed: 1 });
    assert!(plain.windows_run().unwrap() <= 2);
    assert_eq!(job(&[RESIDUAL, EXPERT], Kept::Sample { rows: 2, seed: 1 }).windows_run().unwrap(), 8);
    assert_eq!(job(&[RESIDUAL], Kept::Whole).windows_run().unwrap(), 8);
    assert_eq!(job(&[RESIDUAL], Kept::Sample { rows: 99, seed: 1 }).windows_run().unwrap(), 8);
}

#[test]
fn another_job_or_no_wish_to_resume_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = job(&[RESIDUAL], FEW);
    record(&first, 2, folder.path(), false).unwrap();
    assert!(matches!(record(&first, 2, folder.path(), false), Err(TraceError::Taken { .. })));
    assert!(matches!(record(&first, 2, folder.path(), true).unwrap(), RecordOutcome::Done(_)));
    let refused = |change: &dyn Fn(&mut ActivationJob), words: &str| {
        let mut other = first.clone();
        change(&mut other);
        let message = record(&other, 2, folder.path(), true).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(&|job| job.kept = Kept::Sample { rows: 7, seed: 6 }, "seed 5");
    refused(&|job| job.points.push(HookPoint::block(Site::ResidPre, 1)), "the hooks");
    refused(&|job| job.windows[0].ids[1] ^= 1, "the text");
    refused(&|job| job.model.1 = "another".into(), "the model");
    let mut renamed = first.clone();
    renamed.model.0 = "the same elsewhere".into();
    assert!(record(&renamed, 2, folder.path(), true).is_ok());
    for empty in [
        ActivationJob { windows: vec![], ..first.clone() },
        ActivationJob { points: vec![], ..first.clone() },
    ] {
        let fresh = tempfile::tempdir().unwrap();
        assert!(record(&empty, 2, fresh.path(), false).is_err());
        assert!(files(fresh.path()).is_empty(), "nothing is left");
    }
}

#[test]
fn damage_and_absent_sites_are_named() {
    let folder = tempfile::tempdir().unwrap();
    record(&job(&ALL, FEW), 2, folder.path(), false).unwrap();
    let open = || ActivationFolder::open(folder.path());
    let message = open().unwrap().rows("blocks.0.hook_resid_pre".parse().unwrap()).unwrap_err().to_string();
    assert!(message.contains("the nearest is `blocks.0.hook_resid_post`"), "{message}");
    for name in ["part-00001.safetensors", "experts.safetensors"] {
        let path = folder.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 9, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let read = |point: &str| open().unwrap().rows(point.parse().unwrap());
            assert!(read(RESIDUAL).is_err() || read(EXPERT).is_err(), "{name} cut to {length}");
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    let path = folder.path().join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in
        [("\"schema\": 1", "\"schema\": 2"), ("\"activations\"", "\"routes\""), ("\"kept\"", "\"kpt\"")]
    {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        assert!(open().is_err(), "{to}");
    }
}

#[test]
fn a_site_whose_rows_are_spread_over_heads_comes_back() {
    let point = HookPoint::block(Site::AttnPattern, 0);
    let value = |batch: usize| {
        let numbers = (0..batch * 2 * 4 * 4).map(|x| x as f32).collect();
        Value::new(point, vec![batch, 2, 4, 4], ValueData::Real(numbers), None).unwrap()
    };
    let seen = Observation {
        values: BTreeMap::from([(point, value(2))]),
        loss: vec![0.0; 6],
        ..Observation::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(resume::part(0));
    let window = |start| CorpusWindow { document: 0, start, ids: vec![1; 4] };
    let mut part = part::Part::default();
    let seen = margins::Seen::of(seen, &[point]);
    part.put_whole(&window(0), 0, &seen);
    part.put_whole(&window(4), 1, &seen);
    part.flush(&path, true).unwrap();
    assert_eq!(crate::read_recorded(&path, point).unwrap(), value(2));
}

#[test]
fn margins_stand_beside_the_values_of_a_router_and_what_they_came_from_does_not() {
    let layer = "blocks.1.mlp.router";
    for kept in [Kept::Whole, FEW] {
        let (folder, job) = (tempfile::tempdir().unwrap(), job(&[INDICES, RESIDUAL], kept));
        record(&job, 3, folder.path(), false).unwrap();
        let recorded = ActivationFolder::open(folder.path()).unwrap();
        assert_eq!(recorded.router_layers().into_iter().collect::<Vec<_>>(), [1]);
        // The planted router leaves one unit between the second and the third logit, of twice three.
        let tokens = if kept == FEW { 7 } else { 32 };
        assert_eq!(recorded.relative_margins(1).unwrap(), vec![1.0 / 6.0; tokens], "{kept:?}");
        let part = crate::TensorReader::open(&folder.path().join(resume::part(0))).unwrap();
        let names: Vec<&str> = part.names().filter(|name| name.starts_with(layer)).collect();
        assert_eq!(
            names,
            ["hook_indices", "margin", "relative_margin"].map(|name| format!("{layer}.{name}"))
        );
        let (_, margins) = part.reals(&format!("{layer}.margin")).unwrap();
        assert!(margins.iter().all(|margin| (margin - 0.2).abs() < 1e-6));
    }
    let (folder, job) = (tempfile::tempdir().unwrap(), job(&[RESIDUAL], Kept::Whole));
    record(&job, 3, folder.path(), false).unwrap();
    let recorded = ActivationFolder::open(folder.path()).unwrap();
    assert!(recorded.router_layers().is_empty() && recorded.relative_margins(1).is_err());
}

#[test]
fn a_subject_that_gives_up_because_it_was_asked_to_stop_is_no_error() {
    let (folder, job) = (tempfile::tempdir().unwrap(), job(&ALL, Kept::Whole));
    let stop = AtomicBool::new(false);
    // The subject answers three times; then the flag goes up in the middle of a pass.
    struct Heeding<'a>(Steady, &'a AtomicBool);
    impl Subject for Heeding<'_> {
        fn shape(&self) -> &SubjectShape {
            self.0.shape()
        }
        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            self.0.run(request).inspect_err(|_| self.1.store(true, std::sync::atomic::Ordering::Relaxed))
        }
        fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
            self.0.unembed(residual)
        }
    }
    let mut subject = Heeding(Steady::for_passes(3), &stop);
    let outcome =
        record_activations(&mut subject, &job, 1, folder.path(), false, &mut |_, _| {}, &stop).unwrap();
    assert_eq!(outcome, RecordOutcome::Interrupted { windows: 3, of: 8 });
    assert!(matches!(record(&job, 2, folder.path(), true).unwrap(), RecordOutcome::Done(_)));
    assert!(files(folder.path()) == undisturbed(&job, 2));
}
