//! Whether a feature is silent where another, narrower one has taken its part.

use moescope_engine::Tensor;

use crate::{Dictionary, DictionaryError, Rows};

/// When a token counts as absorbed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AbsorptionRule {
    /// Share of a token's way along the probe that one other feature has to write.
    pub share: f64,
    /// Tokens with the property, and without it, at least.
    pub least: usize,
}

impl Default for AbsorptionRule {
    fn default() -> Self {
        AbsorptionRule { share: 0.4, least: 10 }
    }
}

/// Absorption of one property of tokens.
///
/// The probe is the difference between the means of rows with the property and without it, at length 1, and a token is on the side of the property
/// if it lies beyond the middle of the two means. The property's feature is the one that tells the property best (largest F1 of active
/// or not). A token is absorbed if it has the property, lies on its side, the property's feature is silent, and one other feature writes
/// at least a share of the token's way from the mean without the property along the probe.
///
/// - **Shape:** rows and `with[row]` → one number for the property.
/// - **Unit and range:** share of the tokens that have the property and lie on its side, from 0 to 1.
/// - **Null:** the same of a property dealt out at random; there the probe points nowhere, and the share is that of chance.
/// - **Does not show:** absorption by several features together, nor a property that has no direction. The feature that tells the
///   property best need not stand for it: look at its F1.
/// - **Source:** after Chanin et al. 2024, "A is for Absorption", and SAEBench, with a mean-difference probe in place of a trained
///   one and one main feature in place of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absorption {
    /// Feature that tells the property best.
    pub feature: usize,
    /// Its F1 as a detector, from 0 to 1.
    pub f1: f64,
    /// Tokens that have the property and lie on its side.
    pub tokens: usize,
    /// Share of them that are absorbed.
    pub absorbed: f64,
}

/// Measures the absorption of a property, `with[row]`. `None` where too few tokens have it or lack it, or none lies on its side.
///
/// # Errors
/// [`DictionaryError::Width`] for rows of other widths, or a list of another length.
pub fn absorption(
    dictionary: &Dictionary,
    rows: &Rows,
    with: &[bool],
    rule: AbsorptionRule,
) -> Result<Option<Absorption>, DictionaryError> {
    rows.require_widths(dictionary.input_width(), dictionary.target_width())?;
    if with.len() != rows.len() {
        let (found, wanted) = (with.len(), rows.len());
        return Err(DictionaryError::Width { what: "the list of properties", found, wanted });
    }
    let count = with.iter().filter(|with| **with).count();
    if count < rule.least || with.len() - count < rule.least {
        return Ok(None);
    }
    let features = dictionary.encode(&rows.input)?;
    let Some(probe) = Probe::of(rows.wanted(), with) else { return Ok(None) };
    let (feature, f1) = best_detector(&features, with);
    let along: Vec<f64> = {
        let directions = dictionary.directions();
        directions.data().chunks_exact(directions.columns()).map(|row| probe.along(row)).collect()
    };
    let columns = dictionary.target_width();
    let (mut tokens, mut absorbed) = (0, 0);
    for (token, row) in rows.wanted().data().chunks_exact(columns).enumerate() {
        let way = probe.along(row) - probe.without;
        if !with[token] || way <= probe.middle {
            continue;
        }
        tokens += 1;
        let features = &features.data()[token * features.columns()..][..features.columns()];
        let takes = |(place, value): (usize, &f32)| {
            place != feature && f64::from(*value) * along[place] >= rule.share * way
        };
        absorbed += usize::from(features[feature] == 0.0 && features.iter().enumerate().any(takes));
    }
    let share = absorbed as f64 / tokens as f64;
    Ok((tokens > 0).then_some(Absorption { feature, f1, tokens, absorbed: share }))
}

/// The way from rows without a property to rows with it.
struct Probe {
    /// Of length 1.
    direction: Vec<f64>,
    /// Where the mean without the property lies along it.
    without: f64,
    /// How far the middle of the two means is from there.
    middle: f64,
}

impl Probe {
    fn of(rows: &Tensor, with: &[bool]) -> Option<Probe> {
        let mean = |wanted: bool| {
            let mut sum = vec![0.0; rows.columns()];
            let chosen =
                rows.data().chunks_exact(rows.columns()).zip(with).filter(|(_, with)| **with == wanted);
            for (row, _) in chosen {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            let count = with.iter().filter(|with| **with == wanted).count() as f64;
            sum.iter_mut().for_each(|sum| *sum /= count);
            sum
        };
        let (there, here) = (mean(true), mean(false));
        let difference: Vec<f64> = there.iter().zip(&here).map(|(a, b)| a - b).collect();
        let length = difference.iter().map(|x| x * x).sum::<f64>().sqrt();
        let direction: Vec<f64> = difference.iter().map(|x| x / length).collect();
        let without = here.iter().zip(&direction).map(|(a, b)| a * b).sum();
        (length > 0.0).then_some(Probe { direction, without, middle: length / 2.0 })
    }

    fn along(&self, row: &[f32]) -> f64 {
        row.iter().zip(&self.direction).map(|(x, d)| f64::from(*x) * d).sum()
    }
}

/// The feature with the largest F1, the first of equals.
fn best_detector(features: &Tensor, with: &[bool]) -> (usize, f64) {
    let columns = features.columns();
    let (mut active, mut both) = (vec![0usize; columns], vec![0usize; columns]);
    for (row, with) in features.data().chunks_exact(columns).zip(with) {
        for (place, value) in row.iter().enumerate() {
            active[place] += usize::from(*value > 0.0);
            both[place] += usize::from(*value > 0.0 && *with);
        }
    }
    let count = with.iter().filter(|with| **with).count();
    let f1 = |place: usize| 2.0 * both[place] as f64 / (active[place] + count) as f64;
    (0..columns).fold((0, f1(0)), |best, place| if f1(place) > best.1 { (place, f1(place)) } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use crate::{Parts, Place};

    /// A parent along the first axis and a child along the second, which comes with its parent; every fourth row has both, every fourth
    /// the parent alone.
    fn rows() -> (Rows, Vec<bool>) {
        let row = |row: usize| match row % 4 {
            0 => [1.0, 1.0, 0.0],
            1 => [1.0, 0.0, 0.0],
            _ => [0.0, 0.0, 1.0],
        };
        let input = Tensor::new([80, 3], (0..80).flat_map(row).collect()).unwrap();
        (Rows::of(input), (0..80).map(|row| row % 4 < 2).collect())
    }

    /// `absorbing`: the parent's feature is silent when the child is there, whose feature writes both.
    fn dictionary(absorbing: bool) -> Dictionary {
        let (parent, child) =
            if absorbing { ([1.0, -1.0, 0.0], [1.0, 1.0]) } else { ([1.0, 0.0, 0.0], [0.0, 1.0]) };
        let parts = Parts {
            rule: crate::Rule::Relu,
            encoder: Tensor::new([3, 3], [parent, [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].concat()).unwrap(),
            encoder_bias: Tensor::zeros([3]),
            decoder: Tensor::new([3, 3], vec![1.0, child[0], 0.0, 0.0, child[1], 0.0, 0.0, 0.0, 1.0])
                .unwrap(),
            bias: Tensor::zeros([3]),
            centred: true,
        };
        Dictionary::new(parts, Place::default()).unwrap()
    }

    #[test]
    fn planted_absorption_is_found_and_its_absence_too() {
        let (rows, with) = rows();
        let rule = AbsorptionRule::default();
        let found = absorption(&dictionary(true), &rows, &with, rule).unwrap().unwrap();
        // Both dictionaries write the rows exactly; one of them hides the parent in half of its tokens.
        assert_eq!((found.tokens, found.absorbed), (40, 0.5));
        let found = absorption(&dictionary(false), &rows, &with, rule).unwrap().unwrap();
        assert_eq!(found, Absorption { feature: 0, f1: 1.0, tokens: 40, absorbed: 0.0 });
    }

    #[test]
    fn a_property_dealt_out_at_random_is_told_by_no_feature() {
        let (rows, _) = rows();
        let with: Vec<bool> = numbers(&[80], 3).data().iter().map(|x| *x > 0.0).collect();
        let found = absorption(&dictionary(false), &rows, &with, AbsorptionRule::default()).unwrap();
        assert!(found.is_none_or(|found| found.f1 < 0.8 && found.absorbed < 0.4), "{found:?}");
    }

    #[test]
    fn the_order_of_tokens_changes_nothing_and_too_few_give_nothing() {
        let (given, with) = rows();
        let reversed = given.input.data().chunks(3).rev().flatten().copied().collect();
        let turned = Rows::of(Tensor::new([80, 3], reversed).unwrap());
        let back: Vec<bool> = with.iter().rev().copied().collect();
        let rule = AbsorptionRule::default();
        let dictionary = dictionary(true);
        assert_eq!(
            absorption(&dictionary, &given, &with, rule).unwrap(),
            absorption(&dictionary, &turned, &back, rule).unwrap()
        );
        assert_eq!(absorption(&dictionary, &given, &[false; 80], rule).unwrap(), None);
        assert!(absorption(&dictionary, &given, &[true; 3], rule).is_err());
    }
}
