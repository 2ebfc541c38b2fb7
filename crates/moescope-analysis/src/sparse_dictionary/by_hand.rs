//! Numbers of dictionaries that are small enough to be worked out by hand.

use std::collections::BTreeMap;

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, Seed, Site, Subject, SubjectError, SubjectShape,
    TokenSelection, Tokens, Value, ValueData, ValueEdit,
};
use moescope_dictionary::{Dictionary, Parts, Place, Rule};
use moescope_engine::Tensor;

use super::instrument::{Feature, Row, features};
use super::learned::Learned;
use super::letters::absorbed;
use super::losses::{judging, lost};
use super::report;
use super::sites::{Gathered, Part};
use crate::Sample;
use crate::instrument::Material;
use crate::routing::planted;
use crate::statistics::{BootstrapMethod, Resampling};
use crate::wording::found;

/// A dictionary that reads and writes these directions, with what is added to each before it is rectified.
pub(super) fn dictionary<const WIDTH: usize>(
    rule: Rule,
    directions: &[[f32; WIDTH]],
    encoder_bias: &[f32],
) -> Dictionary {
    written(rule, directions, directions, encoder_bias)
}

/// The same with other directions that are written.
fn written<const WIDTH: usize>(
    rule: Rule,
    read: &[[f32; WIDTH]],
    written: &[[f32; WIDTH]],
    encoder_bias: &[f32],
) -> Dictionary {
    let features = read.len();
    let decoder = (0..WIDTH).flat_map(|at| written.iter().map(move |direction| direction[at])).collect();
    let parts = Parts {
        rule,
        encoder: Tensor::new([features, WIDTH], read.concat()).unwrap(),
        encoder_bias: Tensor::new([features], encoder_bias.to_vec()).unwrap(),
        decoder: Tensor::new([WIDTH, features], decoder).unwrap(),
        bias: Tensor::zeros([WIDTH]),
        centred: true,
    };
    Dictionary::new(parts, Place::default()).unwrap()
}

fn point() -> HookPoint {
    HookPoint::block(Site::ResidPost, 0)
}

/// Tokens of a document.
const POSITIONS: usize = 4;

/// One number stands in the stream for each token, its id; what the loss of a token rises by is the square of the change of that number.
struct Squares(SubjectShape);

impl Squares {
    fn new() -> Squares {
        let feed_forward = vec![FeedForwardShape::Dense { width: 1 }];
        let options = Default::default();
        Squares(SubjectShape { d_model: 1, vocab: 9, heads: 1, head_dim: 1, feed_forward, options })
    }
}

impl Subject for Squares {
    fn shape(&self) -> &SubjectShape {
        &self.0
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let tokens = request.tokens;
        let clean: Vec<f32> = tokens.ids().iter().map(|id| *id as f32).collect();
        let mut stream = clean.clone();
        for edit in request.edits {
            match edit {
                Edit::Value { change: ValueEdit::PatchByToken { of, rows }, .. } => {
                    of.iter().zip(rows).for_each(|(token, x)| stream[*token as usize] = *x);
                }
                Edit::Value { tokens, change: ValueEdit::Set { vector }, .. } => {
                    let TokenSelection::Rows(rows) = tokens else { panic!("rows are named") };
                    rows.iter().for_each(|token| stream[*token as usize] = vector[0]);
                }
                other => panic!("{other:?}"),
            }
        }
        let followed = |token: &usize| !(token + 1).is_multiple_of(tokens.positions());
        let loss = |token: usize| 1.0 + (stream[token] - clean[token]).powi(2);
        let loss = (0..tokens.len()).filter(followed).map(loss).collect();
        let shape = vec![tokens.batch(), tokens.positions(), 1];
        let value = Value::new(point(), shape, ValueData::Real(stream), None).unwrap();
        Ok(Observation { values: BTreeMap::from([(point(), value)]), loss, ..Observation::default() })
    }

    fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Err(SubjectError::Input { reason: "the planted subject has no vocabulary".into() })
    }
}

fn resampling() -> Resampling {
    Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) }
}

/// Added, ablated and recovered of a dictionary that writes this much of the number that stands in the stream. Five documents, each
/// of these ids; the dictionary learned from the numbers 1 and 5.
fn losses(share: f32, ids: [u32; POSITIONS]) -> [f64; 3] {
    let tokens = Tokens::new(ids.repeat(5), 5, POSITIONS).unwrap();
    let sample = Sample::one_document_each(tokens.clone(), 0);
    let table = planted::tokens(ids.repeat(5), vec![0; 20], sample.documents().to_vec());
    let mut subject = Squares::new();
    let mut material = Material::new(&mut subject, vec![(tokens, table)], Seed(1)).unwrap();
    let dictionary = written(Rule::Relu, &[[1.0]], &[[share]], &[0.0]);
    let learned = Tensor::new([2, 1], vec![1.0, 5.0]).unwrap();
    let found =
        lost(&mut material, &[sample], (&dictionary, point(), &learned), resampling()).unwrap().unwrap();
    assert_eq!(found.added.units, 5);
    [found.added.estimate, found.ablated, found.recovered]
}

#[test]
fn what_the_loss_pays_and_keeps_by_hand() {
    let near = |found: [f64; 3], wanted: [f64; 3]| {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {wanted:?}");
    };
    // Of the three tokens that predict another the first is left alone; of the numbers 2 and 4 a quarter is lost, or they become the mean, 3.
    near(losses(0.75, [8, 2, 4, 6]), [1.25 / 3.0, 2.0 / 3.0, 1.0 - 1.25 / 2.0]);
    // Writing nothing is worse than the mean, writing all of it costs nothing.
    near(losses(0.0, [8, 2, 4, 6]), [20.0 / 3.0, 2.0 / 3.0, 1.0 - 20.0 / 2.0]);
    near(losses(1.0, [8, 2, 4, 6]), [0.0, 2.0 / 3.0, 1.0]);
    // The last token predicts nothing, whatever stands there.
    near(losses(0.75, [8, 2, 4, 0]), [1.25 / 3.0, 2.0 / 3.0, 1.0 - 1.25 / 2.0]);
    // Where the mean costs nothing there is no share of it.
    let [added, ablated, recovered] = losses(0.5, [8, 3, 3, 6]);
    assert!((added - 1.5).abs() < 1e-6 && ablated.abs() < 1e-6 && recovered.is_nan());
}

#[test]
fn whole_sequences_of_judging_documents_alone_judge() {
    let parts = BTreeMap::from([(0, Part::Judges), (1, Part::First), (2, Part::Judges), (3, Part::Second)]);
    let documents = vec![0, 0, 1, 1, 2, 2, 2, 3];
    let sample = Sample::new(Tokens::new((0..8).collect(), 4, 2).unwrap(), documents).unwrap();
    let found = judging(&[sample], &parts).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].tokens().ids(), found[0].documents()), (&[0, 1, 4, 5][..], &[0, 0, 2, 2][..]));
}

/// Rows of a parent along the first axis, half of them with a child along the second, and of another thing along the third.
fn family(backwards: bool) -> Gathered {
    let kind = |row: usize| if backwards { (79 - row) % 4 } else { row % 4 };
    let row = |row: usize| match kind(row) {
        0 => [1.0, 1.0, 0.0],
        1 => [1.0, 0.0, 0.0],
        _ => [0.0, 0.0, 1.0],
    };
    let rows = Tensor::new([80, 3], (0..80).flat_map(row).collect()).unwrap();
    let ids = (0..80).map(|row| [0, 1, 2, 2][kind(row)]).collect();
    Gathered { point: point(), rows, ids, documents: (0..80).map(|row| row / 4).collect() }
}

#[test]
fn absorbed_letters_by_hand() {
    // The feature of the letter a is silent in half of its tokens, where another writes it; that of the letter b is always there: ½ and 0.
    let reads = [[1.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let writes = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let absorbing = written(Rule::Relu, &reads, &writes, &[0.0; 3]);
    let plain = dictionary(Rule::Relu, &[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], &[0.0; 3]);
    let words = |texts: [&str; 3]| texts.map(String::from);
    let letters = words([" apple", "Avocado", " bird"]);
    let share = |dictionary: &Dictionary, words: &[String], backwards: bool| {
        let found = absorbed(dictionary, &family(backwards), words, Seed(1)).unwrap();
        found.map(|found| (found.share, found.letters))
    };
    assert_eq!(share(&absorbing, &letters, false), Some((0.25, 2)));
    assert_eq!(share(&absorbing, &letters, true), Some((0.25, 2)), "the order of tokens");
    assert_eq!(share(&absorbing, &words(["apple", "Avocado", "7"]), false), Some((0.5, 1)));
    assert_eq!(share(&plain, &letters, false), Some((0.0, 2)));
    assert_eq!(share(&absorbing, &words(["1", "2", "3"]), false), None);
    assert_eq!(share(&absorbing, &[], false), None, "texts of tokens are not known");
    let null =
        |seed: u64| absorbed(&plain, &family(false), &letters, Seed(seed)).unwrap().map(|found| found.null);
    assert!(
        null(1) == null(1) && (2..20).any(|seed| null(seed) != null(1)),
        "the seed deals the letters out"
    );
    assert!((1..20).filter_map(null).all(|share| (0.0..=1.0).contains(&share)));
}

/// What was learned of two axes and a direction that is never active.
fn learned() -> Learned {
    Learned {
        dictionary: dictionary(Rule::Relu, &[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &[0.0, 0.0, -100.0]),
        rows: 300,
        explained: found(0.8, 0.7, 0.9),
        explained_null: 0.6,
        explained_p: 0.01,
        dead: 1.0 / 3.0,
        densities: vec![0.02, 0.75, 0.0],
        cosines: vec![0.7, 0.95, 1.0],
        found: 0.5,
        found_null: 0.0,
    }
}

#[test]
fn tokens_of_features_have_their_part_of_the_activation_by_hand() {
    let rows = Tensor::new([4, 2], vec![1.0, 4.0, 2.0, -1.0, 5.0, 0.0, 0.0, 4.0]).unwrap();
    let site = Gathered { point: point(), rows, ids: vec![7, 7, 3, 9], documents: vec![0, 0, 1, 1] };
    let told: Vec<(usize, Vec<(u32, f64)>)> =
        features(&learned(), &site).unwrap().into_iter().map(|of| (of.feature, of.tokens)).collect();
    // The second is found again best, and the third is dead. Along the second axis 4 and 4, along the first 1 + 2 and 5.
    assert_eq!(told, [(1, vec![(7, 0.5), (9, 0.5)]), (0, vec![(3, 0.625), (7, 0.375)])]);
}

#[test]
fn tables_tell_what_was_found_beside_its_null() {
    let features = vec![Feature { feature: 1, tokens: vec![(7, 0.5), (9, 0.5)] }];
    let rows = [Row { site: point(), learned: learned(), lost: None, absorbed: None, features }];
    let tokens = Tokens::new(vec![0; 4], 2, 2).unwrap();
    let table = planted::tokens(vec![0; 4], vec![0; 4], vec![0, 0, 1, 1]);
    let mut subject = Squares::new();
    let material = Material::new(&mut subject, vec![(tokens, table)], Seed(1)).unwrap();
    let scrambled = BTreeMap::from([((Some(0), Site::ResidPost), [0.125, 0.25])]);
    let finding = report::finding(&rows, &scrambled, &material).unwrap();
    let number = |table: usize, column: &str, row: usize| {
        finding.tables[table].column(column).unwrap().data.number(row)
    };
    assert_eq!((number(0, "explained", 0), number(0, "explained_null", 0)), (Some(0.8), Some(0.6)));
    assert!((number(0, "beyond", 0).unwrap() - 0.2).abs() < 1e-12);
    assert_eq!(
        (number(0, "beyond_null", 0), number(0, "scrambled_found_again", 0)),
        (Some(0.125), Some(0.25))
    );
    assert!((number(0, "dead", 0).unwrap() - 1.0 / 3.0).abs() < 1e-12);
    // One feature is never active, one in two of a hundred rows and one in three of four; all alike they were active in 0.77 / 3 of them.
    let counts = |column: &str| -> Vec<f64> {
        (0..finding.tables[1].rows()).map(|row| number(1, column, row).unwrap()).collect()
    };
    assert_eq!(counts("count"), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(counts("count_null"), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
    assert_eq!((finding.tables[2].rows(), number(2, "feature", 0)), (1, Some(1.0)));
    assert!(finding.figures[0].title.contains("0.80 against 0.60"), "{}", finding.figures[0].title);
    assert!(finding.figures[1].title.starts_with("50 %"), "{}", finding.figures[1].title);
}
