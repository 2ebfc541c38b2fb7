use super::answers::{Asked, layers};
use super::*;
use crate::instrument::{Finding, Instrument, Material};
use crate::matrix::{Features, normal, random_rotation};
use crate::planted_model::{EXPERTS, batch, model, own_text, twin};
use crate::routing::{Permutations, planted};
use crate::similarity::Measure;
use moescope_base::{HookPoint, Request, Seed, Site, row_tokens};
use moescope_model::{Model, ModelSubject};

fn noise(tokens: usize, width: usize, seed: u64) -> Features {
    let mut rng = Seed(seed).rng();
    Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
}

/// Pairs of these experts, whose documents are of four tokens.
fn pairs(experts: Vec<Features>, input: &Features, shuffles: usize, seed: u64) -> Vec<ExpertPair> {
    let documents: Vec<u32> = (0..input.tokens() as u32).map(|token| token / 4).collect();
    let named: Vec<(usize, Features)> = experts.into_iter().enumerate().collect();
    expert_pairs(3, &named, input, &documents, Permutations::new(shuffles, Seed(seed))).unwrap()
}

#[test]
fn two_experts_by_hand() {
    // Sixteen tokens on which the experts agree as often as not. Off the diagonal, tr(K̃L̃) = 0 − 16, every row sums to −1, so that
    // HSIC₁ · 16 · 13 is −16 + 256 / 210 − 2 / 14 · 16 of the two and 240 + 256 / 210 − 2 / 14 · 16 of each with itself: −1 / 14.
    let signs = |period: usize| {
        let one = |token: usize| if (token / period).is_multiple_of(2) { 1.0 } else { -1.0 };
        Features::new(3, &(0..16).flat_map(|token| [one(token), 0.0, 0.0]).collect::<Vec<f64>>()).unwrap()
    };
    let found = pairs(vec![signs(1), signs(2)], &signs(1), 9, 1);
    let linear = found.iter().find(|pair| pair.measure == Measure::LinearCka).unwrap();
    assert!((linear.likeness.observed + 1.0 / 14.0).abs() < 1e-12, "{linear:?}");
    // The first answers what it reads, the second as above.
    assert!((linear.input - (1.0 - 1.0 / 14.0) / 2.0).abs() < 1e-12, "{linear:?}");
    assert_eq!((linear.layer, linear.first, linear.second, linear.interval.units), (3, 0, 1, 4));
}

#[test]
fn experts_that_answer_nothing_are_left_out() {
    let nothing = Features::new(3, &[0.0; 48]).unwrap();
    let found = pairs(vec![noise(16, 3, 1), nothing, noise(16, 3, 2)], &noise(16, 3, 3), 3, 1);
    assert_eq!(found.len(), Measure::ALL.len());
    assert!(found.iter().all(|pair| (pair.first, pair.second) == (0, 2)));
}

#[test]
fn unrelated_experts_are_called_alike_at_the_stated_rate() {
    let of = |seed: u64| {
        let experts = vec![noise(24, 3, 3000 + seed), noise(24, 3, 6000 + seed)];
        pairs(experts, &noise(24, 3, 1), 19, seed)
    };
    let all: Vec<Vec<ExpertPair>> = (0..200).map(of).collect();
    for (place, measure) in Measure::ALL.into_iter().enumerate() {
        let rate = planted::rejection_rate(200, |seed| all[seed as usize][place].likeness.p_value);
        // Of 200 tests at 5 %, 22 and more reject in less than 1 of 1,000 cases.
        assert!(rate < 0.11, "{}: {rate}", measure.name());
    }
}

#[test]
fn a_basis_of_its_own_changes_nothing() {
    let (first, second, input) = (noise(24, 4, 1), noise(24, 4, 2), noise(24, 4, 3));
    let turned = second.rotate(&(2.0 * random_rotation(4, Seed(4)))).unwrap();
    let own = pairs(vec![first.clone(), second], &input, 9, 1);
    let other = pairs(vec![first, turned], &input, 9, 1);
    // Correlations of coordinates follow the basis, and so do weights by the size of coordinates.
    let follows = |measure: Measure| matches!(measure, Measure::Rsa | Measure::Pwcca);
    for (a, b) in own.iter().zip(&other).filter(|(a, _)| !follows(a.measure)) {
        assert!((a.likeness.observed - b.likeness.observed).abs() < 1e-9, "{a:?} {b:?}");
        assert!((a.interval.low - b.interval.low).abs() < 1e-9 && (a.input - b.input).abs() < 1e-9);
    }
}

#[test]
fn which_of_two_experts_stands_first_does_not_matter_to_any_measure() {
    let (first, second, input) = (noise(24, 4, 1), noise(24, 6, 2), noise(24, 4, 3));
    let own = pairs(vec![first.clone(), second.clone()], &input, 1, 1);
    let other = pairs(vec![second, first], &input, 1, 1);
    assert_eq!(own.len(), Measure::ALL.len());
    for (a, b) in own.iter().zip(&other) {
        assert!((a.likeness.observed - b.likeness.observed).abs() < 1e-9, "{a:?} {b:?}");
        assert!((a.interval.high - b.interval.high).abs() < 1e-9 && (a.input - b.input).abs() < 1e-9);
    }
}

/// A material of sixteen documents, of the model's own predictions.
fn with_material<T>(model: &Model, ask: impl FnOnce(&mut Material<'_>) -> T) -> T {
    let sample = own_text(model, 16, 1);
    let mut subject = ModelSubject::new(model.clone());
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    material.permutations = 9;
    ask(&mut material)
}

fn run(model: &Model) -> Finding {
    with_material(model, |material| ExpertRepresentation.run(material).unwrap())
}

/// Likeness by linear CKA of the pairs of the first layer: first expert, second, likeness.
fn linear(finding: &Finding) -> Vec<(i64, i64, f64)> {
    let table = &finding.tables[0];
    let of = |name: &str, row: usize| table.column(name).unwrap().data.number(row).unwrap();
    let rows = (0..table.rows()).filter(|row| {
        table.column("measure").unwrap().data.label(*row) == "linear CKA" && of("layer", *row) == 0.0
    });
    rows.map(|row| (of("first", row) as i64, of("second", row) as i64, of("likeness", row))).collect()
}

#[test]
fn twins_of_a_layer_answer_as_one_and_no_others() {
    let found = linear(&run(&model(2, 1, |name, data| twin(name, data, 0, 1, 4))));
    assert_eq!(found.len(), EXPERTS * (EXPERTS - 1) / 2);
    for (first, second, likeness) in found {
        match (first, second) {
            (1, 4) => assert!((likeness - 1.0).abs() < 1e-6, "{likeness}"),
            _ => assert!(likeness < 0.95, "{first} {second}: {likeness}"),
        }
    }
}

#[test]
fn names_of_experts_do_not_matter() {
    let reversed = model(1, 2, |name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate") {
            let parts: Vec<Vec<f32>> = data.chunks(data.len() / EXPERTS).rev().map(<[f32]>::to_vec).collect();
            data.copy_from_slice(&parts.concat());
        }
    });
    let (own, other) = (run(&model(1, 2, |_, _| {})), run(&reversed));
    let last = EXPERTS as i64 - 1;
    for (first, second, likeness) in linear(&own) {
        let other = linear(&other);
        let same = other.iter().find(|row| (row.0, row.1) == (last - second, last - first)).unwrap();
        assert!((same.2 - likeness).abs() < 1e-5, "{first} {second}");
    }
    assert_eq!(own.figures.len(), 2);
    assert_eq!(own.figures[0].title, other.figures[0].title);
}

#[test]
fn experts_that_are_made_to_answer_answer_what_they_always_did() {
    with_material(&model(2, 3, |_, _| {}), |material| {
        let asked = Asked::drawn(material, METHOD, 1000).unwrap();
        assert_eq!(asked.documents.len(), 16 * 23);
        let subject = &mut *material.subject;
        assert_eq!(layers(subject.shape(), 1), [1]);
        let expert = 5;
        let forced = asked.answers(subject, 1, &[2, expert]).unwrap().remove(1);
        let point = HookPoint::expert(Site::ExpertOut, 1, expert);
        let (mut place, mut seen) = (0, 0);
        for sample in &asked.samples {
            let request = Request { record: &[point], ..Request::of(sample.tokens()) };
            let free = subject.run(&request).unwrap().values.remove(&point).unwrap();
            let rows = row_tokens(&free);
            for token in (0..sample.tokens().len()).filter(|token| token % 24 > 0) {
                if let Some(row) = rows.iter().position(|other| *other as usize == token) {
                    let own = &free.real().unwrap()[row * 32..][..32];
                    let same =
                        own.iter().zip(forced.row(place)).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5);
                    assert!(same, "token {token}");
                    seen += 1;
                }
                place += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    });
}

#[test]
fn few_documents_and_a_dense_model_are_refused() {
    let own = model(1, 1, |_, _| {});
    let sample = own_text(&own, 3, 1);
    let mut subject = ModelSubject::new(own);
    let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
    assert!(ExpertRepresentation.run(&mut material).unwrap_err().to_string().contains("documents"));
    assert!(
        layers(&moescope_base::SubjectShape { feed_forward: vec![], ..material.subject.shape().clone() }, 2)
            .is_empty()
    );
}
