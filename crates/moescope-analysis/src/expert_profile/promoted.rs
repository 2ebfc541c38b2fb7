//! The tokens that the answers of an expert make likelier.

use std::collections::BTreeMap;

use moescope_base::{FeedForwardShape, HookPoint, Request, Site};

use crate::AnalysisError;
use crate::instrument::Material;
use crate::next_token::{less, most_probable};

/// Sequences whose answers are looked at, at most; whole batches.
const SEQUENCES: usize = 64;

/// Ids of the tokens with the largest logits along what each expert of a layer adds on average, beyond what all add: `[expert][rank]`.
///
/// The difference of means is read by the final norm and the unembedding like a residual stream, less what these say of no stream at all: a norm
/// or unembedding with a bias promotes its own tokens whatever is written. Empty for an expert that no looked-at
/// token chooses. It shows a direction alone: later layers may take it away.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn promoted_tokens(
    material: &mut Material<'_>,
    layer: usize,
    count: usize,
) -> Result<Vec<Vec<u32>>, AnalysisError> {
    let FeedForwardShape::Routed { experts, .. } = material.subject.shape().feed_forward[layer] else {
        return Ok(Vec::new());
    };
    let width = material.subject.shape().d_model;
    let points: Vec<HookPoint> =
        (0..experts).map(|expert| HookPoint::expert(Site::ExpertOutWeighted, layer, expert)).collect();
    let mut sums: BTreeMap<HookPoint, (usize, Vec<f64>)> =
        points.iter().map(|point| (*point, (0, vec![0.0; width]))).collect();
    for sample in material.some_samples("promoted tokens", SEQUENCES)? {
        let seen = material.subject.run(&Request::recording(sample.tokens(), &points))?;
        for (point, (rows, sum)) in &mut sums {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            for row in value.real().unwrap_or(&[]).chunks_exact(width) {
                *rows += 1;
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
            }
        }
    }
    let all = sums.values().map(|(rows, _)| rows).sum::<usize>().max(1) as f64;
    let common: Vec<f64> =
        (0..width).map(|place| sums.values().map(|(_, sum)| sum[place]).sum::<f64>() / all).collect();
    let bias = material.subject.unembed(&vec![0.0; width])?;
    let of = |point: &HookPoint| {
        let (rows, sum) = &sums[point];
        if *rows == 0 {
            return Ok(Vec::new());
        }
        let own = |(sum, common): (&f64, &f64)| (sum / *rows as f64 - common) as f32;
        let direction: Vec<f32> = sum.iter().zip(&common).map(own).collect();
        let logits = material.subject.unembed(&direction)?;
        Ok(most_probable(&less(&logits, &bias), count))
    };
    points.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{EXPERTS, batch, model, own_text, rename};
    use crate::routing::planted;
    use moescope_base::{Observation, Seed, Subject, SubjectError, SubjectShape, Tokens, Value, ValueData};
    use moescope_model::{Model, ModelSubject};

    /// One routed block of three experts, of which two answer what is told; the unembedding reads each axis as a token, and likes the last one
    /// whatever it reads.
    struct Planted {
        shape: SubjectShape,
        /// By expert: the tokens that it gets, and what it adds at each.
        answers: [Vec<(u32, [f32; 4])>; 3],
    }

    impl Subject for Planted {
        fn shape(&self) -> &SubjectShape {
            &self.shape
        }

        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            let value = |point: &HookPoint| {
                let answers = &self.answers[point.expert_index().unwrap()];
                let data = answers.iter().flat_map(|(_, answer)| *answer).collect();
                let rows = answers.iter().map(|(token, _)| *token).collect();
                Value::new(*point, vec![answers.len(), 4], ValueData::Real(data), Some(rows)).unwrap()
            };
            let values = request.record.iter().map(|point| (*point, value(point))).collect();
            Ok(Observation { values, ..Observation::default() })
        }

        fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Ok(residual.iter().enumerate().map(|(at, x)| if at % 4 == 3 { x + 100.0 } else { *x }).collect())
        }
    }

    #[test]
    fn promoted_tokens_by_hand() {
        // Means (2, 0, 0, 5) and (0, 4, 0, 5); the mean of all three answers is (4/3, 4/3, 0, 5). Beyond it the first adds (2/3, −4/3, 0, 0), the
        // second (−4/3, 8/3, 0, 0); what the unembedding always likes is taken off, and of equals the lower number comes first.
        let answers = [
            vec![(0, [1.0, 0.0, 0.0, 5.0]), (2, [3.0, 0.0, 0.0, 5.0])],
            vec![(1, [0.0, 4.0, 0.0, 5.0])],
            Vec::new(),
        ];
        let shape = SubjectShape {
            d_model: 4,
            vocab: 4,
            heads: 1,
            head_dim: 1,
            feed_forward: vec![
                FeedForwardShape::Routed { experts: 3, per_token: 1, expert_width: 1 },
                FeedForwardShape::Dense { width: 1 },
            ],
            options: Default::default(),
        };
        let mut subject = Planted { shape, answers };
        let tokens = Tokens::new(vec![0; 3], 1, 3).unwrap();
        let table = planted::tokens(vec![0; 3], vec![0; 3], vec![0; 3]);
        let mut material = Material::new(&mut subject, vec![(tokens, table)], Seed(1)).unwrap();
        let found = promoted_tokens(&mut material, 0, 4).unwrap();
        assert_eq!(found, [vec![0, 2, 3, 1], vec![1, 2, 3, 0], vec![]]);
        assert_eq!(promoted_tokens(&mut material, 0, 1).unwrap(), [vec![0], vec![1], vec![]]);
        assert!(promoted_tokens(&mut material, 1, 4).unwrap().is_empty(), "a dense block has no experts");
    }

    fn told(model: Model) -> Vec<Vec<u32>> {
        let text = own_text(&self::model(1, 3, |_, _| {}), 16, 5);
        let mut subject = ModelSubject::new(model);
        let mut material = Material::new(&mut subject, vec![batch(&text)], Seed(1)).unwrap();
        promoted_tokens(&mut material, 0, 3).unwrap()
    }

    #[test]
    fn an_expert_that_writes_what_the_unembedding_reads_promotes_it_whatever_it_is_called() {
        // All neurons of expert 2 write the direction of token 7, up to sign; gate and up of one neuron are alike, so that it writes no negative part.
        let unembedding = model(1, 3, |_, _| {});
        let parameter = unembedding.parameters().iter().find(|p| p.name == "lm_head.weight").unwrap();
        let direction = parameter.tensor.data()[7 * 32..8 * 32].to_vec();
        let plant = |name: &str, data: &mut [f32]| {
            let size = data.len() / EXPERTS;
            if name.contains("mlp.experts") {
                let own = &mut data[2 * size..3 * size];
                match name.contains("down_proj") {
                    true => own.iter_mut().enumerate().for_each(|(at, x)| *x = 40.0 * direction[at / 8]),
                    // A gate that is the same as what is let through: x · silu(x) is never negative.
                    false => own.iter_mut().enumerate().for_each(|(at, x)| *x = (at as f32).sin()),
                }
            }
        };
        let found = told(model(1, 3, plant));
        assert_eq!(found[2][0], 7, "{found:?}");
        assert!(found.iter().enumerate().all(|(expert, told)| expert == 2 || told[0] != 7), "{found:?}");
        let renamed = told(model(1, 3, |name, data| {
            plant(name, data);
            rename(name, data);
        }));
        for (expert, promoted) in found.iter().enumerate() {
            assert_eq!(*promoted, renamed[(expert + EXPERTS - 1) % EXPERTS], "{expert}");
        }
    }
}
