//! Models whose weights stay in their files: the same bits as in memory, within a bound.

use std::path::{Path, PathBuf};

use moescope_base::{
    Edit, HookPoint, Observation, Request, Seed, Site, Subject, TokenSelection, Tokens, ValueEdit,
};

use crate::ModelError;
use crate::description::{Description, FeedForward, Routed, Router};
use crate::memory_plan::{MemoryPlan, Way, Work};
use crate::model::Model;
use crate::parity::fixture;
use crate::subject::ModelSubject;
use crate::testing;

/// Every checkpoint of the fixtures, folders and single files.
fn checkpoints() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for group in ["checkpoints", "gguf"] {
        for entry in std::fs::read_dir(fixture(group)).unwrap() {
            let path = entry.unwrap().path();
            if path.join("config.json").exists() || path.extension().is_some_and(|e| e == "gguf") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

fn tokens(vocab: usize) -> Tokens {
    let ids = (0..22).map(|i| ((i * 7 + i * i * 3 + 1) % vocab) as u32).collect();
    Tokens::new(ids, 2, 11).unwrap()
}

/// Everything that a pass has, with an edit in the stream and one inside an expert.
fn all(model: Model) -> Observation {
    let tokens = tokens(model.description().vocab);
    let mut subject = ModelSubject::new(model);
    let points = subject.shape().hook_points();
    let edited = [
        Site::AttnResult,
        Site::ResidMid,
        Site::RouterIn,
        Site::ExpertPost,
        Site::ExpertOut,
        Site::ExpertOutWeighted,
    ];
    let site = |point: &&HookPoint| edited.contains(&point.site());
    let scaled = |point: &HookPoint| Edit::Value {
        at: *point,
        tokens: TokenSelection::All,
        change: ValueEdit::Scale { factor: 1.25 },
    };
    let edits: Vec<Edit> = points.iter().filter(site).step_by(3).map(scaled).collect();
    assert!(!edits.is_empty());
    subject.run(&Request { record: &points, edits: &edits, ..Request::of(&tokens) }).unwrap()
}

/// The bits of all numbers, by name.
fn bits(seen: &Observation) -> Vec<(String, Vec<u32>, Option<Vec<u32>>)> {
    let numbers = |point: &HookPoint| {
        let value = &seen.values[point];
        let real = value.real().map(testing::bits);
        let whole = value.integer().map(|numbers| numbers.iter().map(|n| *n as u32).collect());
        (point.to_string(), real.or(whole).unwrap(), value.rows().map(<[u32]>::to_vec))
    };
    let mut all: Vec<_> = seen.values.keys().map(numbers).collect();
    all.push(("loss".into(), testing::bits(&seen.loss), None));
    all
}

#[test]
fn reading_weights_as_they_are_needed_changes_no_bit_in_any_family() {
    let mut routed = 0;
    for path in checkpoints() {
        let place = path.display();
        let model = Model::open(&path).unwrap();
        routed += usize::from(!model.description().subject_shape().routed_layers().is_empty());
        let wanted = bits(&all(model));
        // Room for nothing: expert by expert. Then for some experts, and for all.
        for room in [0, 200_000, 1 << 40] {
            let streamed = Model::open_streamed(&path, room).unwrap();
            assert!(streamed.is_streamed() && streamed.parameters().is_empty());
            for (found, wanted) in bits(&all(streamed)).iter().zip(&wanted) {
                assert_eq!(found, wanted, "{place}, room {room}");
            }
        }
    }
    assert!(routed >= 10, "{routed} routed checkpoints");
}

/// A folder with a vocabulary that is cut into parts and experts of many rows.
fn large(folder: &Path) -> Model {
    let routed =
        Routed { experts: 5, expert_width: 12, per_token: 2, router: Router::learned(true), shared: None };
    let description = Description {
        vocab: 9000,
        max_positions: 512,
        feed_forward: vec![FeedForward::Routed(routed); 2],
        ..testing::dense_description()
    };
    let model = Model::initialise(description, Seed(3)).unwrap();
    model.save(folder).unwrap();
    model
}

#[test]
fn large_matrices_are_cut_without_changing_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let model = large(folder.path());
    let tokens = Tokens::new((0..700).map(|i| (i * 131 + i * i) % 9000).collect(), 2, 350).unwrap();
    let logits = |model: Model| {
        let mut subject = ModelSubject::new(model);
        let point = HookPoint::global(Site::Logits);
        let seen = subject.run(&Request { record: &[point], ..Request::of(&tokens) }).unwrap();
        let width = subject.shape().d_model;
        let read = subject.unembed(&vec![0.5; 3 * width]).unwrap();
        (testing::bits(seen.values[&point].real().unwrap()), testing::bits(&read))
    };
    let wanted = logits(model);
    assert!(wanted == logits(Model::open_streamed(folder.path(), 0).unwrap()));
}

#[test]
fn what_needs_all_weights_is_refused_in_words() {
    let model = Model::open_streamed(&fixture("checkpoints/llama"), 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = model.save(&folder.path().join("copy")).unwrap_err();
    assert!(error.to_string().contains("reads them as it needs them"), "{error}");
    let tokens = tokens(model.description().vocab);
    let point = [HookPoint::block(Site::ResidMid, 0)];
    let asked = Request { gradients: &point, ..Request::of(&tokens) };
    let error = ModelSubject::new(model).run(&asked).unwrap_err();
    assert!(error.to_string().contains("gradients"), "{error}");
}

#[test]
fn the_bound_decides_the_way_and_one_that_is_too_small_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path());
    let work =
        Work { batch: 2, positions: 350, record: &[], edits: &[], gradients: false, kept: 0, threads: 2 };
    let plan = |work: &Work<'_>, bound: u64| MemoryPlan::new(folder.path(), work, bound);
    let ample = plan(&work, 1 << 40).unwrap();
    assert_eq!(ample.way, Way::InMemory);
    // Spare buffers follow the bound, so the bounds at which the way changes are looked for.
    let bounds: Vec<u64> = (0..400).map(|step| (100 + step) << 20).collect();
    let ways: Vec<Option<Way>> = bounds.iter().map(|bound| plan(&work, *bound).ok().map(|p| p.way)).collect();
    assert_eq!((ways[0], ways[399]), (None, Some(Way::InMemory)));
    let error = plan(&work, 1 << 20).unwrap_err();
    assert!(matches!(error, ModelError::Bound { .. }));
    let said = error.to_string();
    assert!(said.contains("2 sequences of 350 tokens") && said.contains("may take 1.0 MiB"), "{said}");
    // What is recorded is counted, and gradients are never taken from a model whose weights are read as needed.
    let logits = [HookPoint::global(Site::Logits)];
    let more = plan(&Work { record: &logits, ..work }, 1 << 40).unwrap();
    assert_eq!(more.in_memory - ample.in_memory, 4 * 700 * 9000);
    // What heads add is worked out beside the pass, with the whole output projection, and copied where it is changed.
    let results = [HookPoint::block(Site::AttnResult, 0)];
    let heard = plan(&Work { record: &results, ..work }, 1 << 40).unwrap();
    let d = testing::dense_description().d_model as u64;
    let heads = testing::dense_description().heads as u64;
    assert!(heard.in_memory - ample.in_memory > 4 * (4 * 700 * heads * d + 2 * d * d));
    assert!(heard.streamed - ample.streamed > 4 * (4 * 700 * heads * d + 2 * d * d));
    let change =
        Edit::Value { at: results[0], tokens: TokenSelection::All, change: ValueEdit::Scale { factor: 2.0 } };
    let changed = plan(&Work { edits: &[change], ..work }, 1 << 40).unwrap();
    assert!(changed.in_memory > heard.in_memory);
    let error = plan(&Work { gradients: true, ..work }, 64 << 20).unwrap_err().to_string();
    assert!(error.contains("gradients"), "{error}");
    let (model, taken) = Model::open_within(folder.path(), &work, 1 << 40).unwrap();
    assert!(!model.is_streamed() && taken == ample);
    assert_eq!((ample.streams, model.room_for_streams()), (256 << 20, 256 << 20));
}

/// Streams that passes have in common take what is left beside all else, whichever way the weights come.
#[test]
fn streams_in_common_stay_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    large(folder.path());
    let work =
        Work { batch: 2, positions: 350, record: &[], edits: &[], gradients: false, kept: 0, threads: 2 };
    let mut left = Vec::new();
    let fits = |bound: &u64| MemoryPlan::new(folder.path(), &work, *bound).is_ok();
    let first = (0..400).map(|step| (100 + step) << 20).find(fits).unwrap();
    // In steps of 64 KiB, as little lies between the two ways for a model as small as this.
    for bound in (0..64).map(|step| first - (2 << 20) + (step << 16)) {
        let Ok((model, plan)) = Model::open_within(folder.path(), &work, bound) else { continue };
        assert_eq!(model.room_for_streams(), plan.streams);
        match plan.way {
            Way::InMemory => assert_eq!(plan.streams, (bound - plan.in_memory).min(256 << 20)),
            Way::Streamed => {
                let all = (bound - plan.streamed) as f64 * 0.75; // what the smallest step leaves, of what is used
                assert!(plan.streams <= all as u64 / 4 + 1, "{plan:?}");
                let step = plan.room + plan.streams - all as u64;
                assert!(plan.room + 1 >= step, "the smallest step still fits: {plan:?}");
            }
        }
        left.push((plan.way == Way::InMemory, plan.streams));
    }
    for way in [false, true] {
        let of_way: Vec<u64> =
            left.iter().filter(|(memory, _)| *memory == way).map(|(_, bytes)| *bytes).collect();
        assert!(of_way.len() > 3 && of_way.last() > of_way.first(), "{of_way:?}");
    }
}
