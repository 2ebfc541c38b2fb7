//! Two dictionaries of one site and two of Gaussian rows like those, and what they say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use moescope_base::Seed;
use moescope_dictionary::{
    Dictionary, DictionaryError, Evaluation, FOUND, Kind, Place, Rows, Settings, gaussian_like, recovery,
    train,
};
use moescope_engine::Tensor;

use super::METHOD;
use super::sites::{Gathered, Part};
use crate::statistics::{Bootstrap, Resampling, bootstrap, mean, student};
use crate::{AnalysisError, check};

/// Features of a dictionary: twice the width of the stream, at most this many.
const FEATURES: usize = 512;
/// Features that are active in a row.
const ACTIVE: usize = 4;
/// Rows of a step.
pub(super) const BATCH: usize = 64;
/// Rows that are mixed before they are used.
pub(super) const MIXED: usize = 16 * BATCH;
/// Rows of a part to learn from, at least.
const LEAST: usize = 256;
/// Steps of a training.
const STEPS: u64 = 800;
/// So few steps want a larger learning rate than the usual one of long trainings, this many times as large.
const HASTE: f32 = 3.5;

/// Size of every dictionary of a model whose stream is so wide.
pub(super) fn features(width: usize) -> usize {
    (2 * width).clamp(ACTIVE, FEATURES)
}

/// What dictionaries of one site say. Gaussian rows are those of the same mean and covariance.
///
/// - **Null:** two dictionaries of as many Gaussian rows, judged on others of them: what is explained because few directions hold most of the
///   variance, and what two trainings share because of that. Of the two the better one counts, since trainings differ.
/// - **Does not show:** what larger dictionaries or longer trainings would find; both numbers are lower limits.
pub(super) struct Learned {
    /// The first dictionary.
    pub(super) dictionary: Dictionary,
    /// Rows that it learned from.
    pub(super) rows: usize,
    /// Share of the variance of the judging documents that the two explain, on average.
    pub(super) explained: Bootstrap,
    /// The same of dictionaries of Gaussian rows, the better of two.
    pub(super) explained_null: f64,
    /// Probability of explaining so much more by chance, over documents.
    pub(super) explained_p: f64,
    /// Share of the features that are active in no judging row.
    pub(super) dead: f64,
    /// Share of judging rows in which each feature is active, `[feature]`.
    pub(super) densities: Vec<f64>,
    /// Largest cosine of each feature with one of the second dictionary, `[feature]`.
    pub(super) cosines: Vec<f64>,
    /// Share of the features that are active somewhere whose cosine is [`FOUND`] or more.
    pub(super) found: f64,
    /// The same between two dictionaries of Gaussian rows.
    pub(super) found_null: f64,
}

/// Learns and judges the dictionaries of a site; `None` where a part has too few rows or nothing varies.
///
/// # Errors
/// If activations are not finite.
pub(super) fn learn(
    site: &Gathered,
    parts: &BTreeMap<u32, Part>,
    seed: Seed,
    resampling: Resampling,
) -> Result<Option<Learned>, AnalysisError> {
    let [(first, _), (second, _), (judging, documents)] =
        [site.part(parts, Part::First)?, site.part(parts, Part::Second)?, site.part(parts, Part::Judges)?];
    let units = numbered(&documents);
    let judges = units.iter().max().map_or(0, |most| *most as usize + 1);
    let too_few = [&first, &second].iter().any(|rows| rows.rows() < LEAST);
    if too_few || judges < 2 || !site.varies() {
        return Ok(None);
    }
    check::finite(METHOD, &site.rows.data().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>())?;
    let own = Pair::learn([&first, &second], (&judging, &units), seed.child("own"))?;
    let like = Rows::of(site.rows.clone());
    let drawn = |count: usize, label: &str| -> Result<Tensor, DictionaryError> {
        Ok(gaussian_like(&like, count, seed.child(label))?.input)
    };
    let [one, other, judged] =
        [drawn(first.rows(), "first")?, drawn(second.rows(), "second")?, drawn(judging.rows(), "judging")?];
    let null = Pair::learn([&one, &other], (&judged, &units), seed.child("gaussian"))?;
    let explained = bootstrap(judges, |drawn| mean(&own.explained(drawn)), resampling)?;
    let all: Vec<usize> = (0..judges).collect();
    let explained_null = null.explained(&all).into_iter().fold(f64::NEG_INFINITY, f64::max);
    let beyond = (explained.estimate - explained_null) / explained.standard_error;
    let [dictionary, _] = own.dictionaries.clone();
    Ok(Some(Learned {
        rows: first.rows(),
        explained,
        explained_null,
        explained_p: student::upper_tail(beyond, judges as f64 - 1.0),
        dead: own.judged[0].dead_share(),
        densities: own.judged[0].densities(),
        found: own.found()?,
        found_null: null.found()?,
        cosines: own.cosines()?,
        dictionary,
    }))
}

/// Documents as numbers from 0 on, in ascending order.
fn numbered(documents: &[u32]) -> Vec<u32> {
    let mut places: BTreeMap<u32, u32> = documents.iter().map(|document| (*document, 0)).collect();
    places.values_mut().zip(0..).for_each(|(place, number)| *place = number);
    documents.iter().map(|document| places[document]).collect()
}

/// Two dictionaries that learned from different rows, and what became of rows that neither has seen.
struct Pair {
    dictionaries: [Dictionary; 2],
    judged: [Evaluation; 2],
}

impl Pair {
    fn learn(
        rows: [&Tensor; 2],
        (judging, units): (&Tensor, &[u32]),
        seed: Seed,
    ) -> Result<Pair, DictionaryError> {
        let one = |place: usize| {
            let dictionary = of_rows(rows[place], seed.index(place as u64))?;
            let mut judged = Evaluation::new(&dictionary);
            judged.add(&dictionary, &Rows::of(judging.clone()), units)?;
            Ok::<_, DictionaryError>((dictionary, judged))
        };
        let (first, second) = rayon::join(|| one(0), || one(1));
        let ((first, first_judged), (second, second_judged)) = (first?, second?);
        Ok(Pair { dictionaries: [first, second], judged: [first_judged, second_judged] })
    }

    /// What each of the two explains of these units.
    fn explained(&self, units: &[usize]) -> [f64; 2] {
        self.judged.each_ref().map(|judged| judged.explained_variance(units))
    }

    /// The largest cosine of each feature of the first with one of the second.
    fn cosines(&self) -> Result<Vec<f64>, DictionaryError> {
        let [first, second] = self.dictionaries.each_ref().map(Dictionary::directions);
        Ok(recovery(&first, &second)?.cosines)
    }

    /// Share of the features of the first that are active somewhere and that the second has as well; 0 where none is active.
    fn found(&self) -> Result<f64, DictionaryError> {
        let cosines = self.cosines()?;
        let alive = cosines.iter().zip(self.judged[0].densities()).filter(|(_, density)| *density > 0.0);
        let found: Vec<f64> = alive.map(|(cosine, _)| f64::from(u8::from(*cosine >= FOUND))).collect();
        Ok(if found.is_empty() { 0.0 } else { mean(&found) })
    }
}

/// A dictionary of rows that are gone through again and again.
///
/// # Errors
/// If rows are not finite or hold no variance.
fn of_rows(rows: &Tensor, seed: Seed) -> Result<Dictionary, DictionaryError> {
    let features = features(rows.columns());
    let usual = Settings::new(Kind::TopK, features, ACTIVE, STEPS * BATCH as u64, seed);
    let settings = Settings {
        batch: BATCH,
        mixed: MIXED / BATCH,
        learning_rate: HASTE * usual.learning_rate,
        dead_after: STEPS / 10 * BATCH as u64,
        ..usual
    };
    let mut source = || Ok(Some(Rows::of(rows.clone())));
    let mut watch = |_: &_| ControlFlow::Continue(());
    Ok(train(&mut source, &settings, Place::default(), &mut watch)?.dictionary)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::dictionary;
    use super::*;
    use moescope_dictionary::Rule;

    /// What two dictionaries make of four rows, two of each unit.
    fn pair(dictionaries: [Dictionary; 2], rows: &[f32]) -> Pair {
        let rows = Rows::of(Tensor::new([4, 2], rows.to_vec()).unwrap());
        let judged = dictionaries.each_ref().map(|dictionary| {
            let mut judged = Evaluation::new(dictionary);
            judged.add(dictionary, &rows, &[0, 0, 1, 1]).unwrap();
            judged
        });
        Pair { dictionaries, judged }
    }

    #[test]
    fn what_two_dictionaries_explain_and_share_by_hand() {
        // The first writes both axes, and has a direction that no row reaches; the second writes the first axis alone.
        let first = dictionary(Rule::Relu, &[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], &[0.0, 0.0, -100.0]);
        let second = dictionary(Rule::Relu, &[[1.0, 0.0], [0.6, 0.8]], &[0.0, -100.0]);
        let found = pair([first, second], &[1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
        // About the means 1 and ½ the squares sum to 6 and 3; the second misses 2² of them.
        let [whole, part] = found.explained(&[0, 1]);
        assert!((whole - 1.0).abs() < 1e-9 && (part - (1.0 - 4.0 / 9.0)).abs() < 1e-9, "{whole} {part}");
        // The second unit alone: squares of 4.5 along the first axis, all explained.
        assert!((found.explained(&[1])[1] - 1.0).abs() < 1e-9);
        assert_eq!(found.judged[0].densities(), [0.5, 0.25, 0.0]);
        assert!((found.judged[0].dead_share() - 1.0 / 3.0).abs() < 1e-12);
        // The first direction is found, the second has a cosine of 0.8; the third is found, but dead.
        let cosines = found.cosines().unwrap();
        assert!(cosines.iter().zip([1.0, 0.8, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{cosines:?}");
        assert_eq!(found.found().unwrap(), 0.5);
        // Where no feature is active nothing is found.
        let silent = || dictionary(Rule::Relu, &[[1.0, 0.0]], &[-100.0]);
        assert_eq!(pair([silent(), silent()], &[1.0; 8]).found().unwrap(), 0.0);
    }

    #[test]
    fn documents_get_numbers_in_their_order() {
        assert_eq!(numbered(&[7, 3, 7, 100]), [1, 0, 1, 2]);
    }

    #[test]
    fn sizes_follow_the_width_within_bounds() {
        assert_eq!([1, 64, 4096].map(features), [4, 128, 512]);
    }
}
