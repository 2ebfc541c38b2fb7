use moescope_model::{Description, FeedForward, Model, ModelSubject, Variation};

use super::*;
use crate::statistics::BootstrapMethod;
use moescope_base::{FeedForwardShape, Observation, SubjectError, SubjectShape, ValueData};
use std::collections::BTreeMap;

const RESAMPLING: Resampling =
    Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };

/// Two layers of two heads. The planted head looks where it should with weight `focus`, all others look evenly; a loss of 4 nats
/// falls by `worth` wherever that head puts out something and the token has been there before.
struct Planted {
    shape: SubjectShape,
    induction: Option<(usize, usize)>,
    focus: f32,
    worth: f32,
}

fn planted(induction: Option<(usize, usize)>) -> Planted {
    let shape = SubjectShape {
        d_model: 4,
        vocab: 100,
        heads: 2,
        head_dim: 2,
        feed_forward: vec![FeedForwardShape::Dense { width: 4 }; 2],
        options: Default::default(),
    };
    Planted { shape, induction, focus: 0.8, worth: 3.0 }
}

impl Planted {
    fn pattern(&self, layer: usize, length: usize) -> Vec<f32> {
        let mut pattern = Vec::new();
        for head in 0..2 {
            for query in 0..length {
                let there =
                    (query > PERIOD && self.induction == Some((layer, head))).then(|| query - PERIOD + 1);
                let even = 1.0 / (query + 1) as f32;
                let focus = there.map_or(0.0, |_| self.focus);
                pattern.extend((0..length).map(|key| {
                    let even = if key <= query { even * (1.0 - focus) } else { 0.0 };
                    even + if there == Some(key) { focus } else { 0.0 }
                }));
            }
        }
        pattern
    }
}

impl Subject for Planted {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let (batch, length) = (request.tokens.batch(), request.tokens.positions());
        let zeroed = |layer: usize, head: usize| {
            request.edits.iter().any(|edit| match edit {
                Edit::Value { at, change: ValueEdit::Patch { rows }, .. } => {
                    *at == HookPoint::block(Site::AttnZ, layer) && rows[head * 2] == 0.0
                }
                _ => false,
            })
        };
        let works = self.induction.is_some_and(|(layer, head)| !zeroed(layer, head));
        let loss = (0..batch * (length - 1)).map(|i| {
            // A little noise, that repeats from pass to pass.
            let noise = (i * 37 % 11) as f32 * 0.01;
            4.0 + noise - if works && i % (length - 1) > PERIOD { self.worth } else { 0.0 }
        });
        let mut values = BTreeMap::new();
        for layer in 0..2 {
            let (point, z) =
                (HookPoint::block(Site::AttnPattern, layer), HookPoint::block(Site::AttnZ, layer));
            let pattern = self.pattern(layer, length).repeat(batch);
            values.insert(
                point,
                Value::new(point, vec![batch, 2, length, length], ValueData::Real(pattern), None).unwrap(),
            );
            let ones = ValueData::Real(vec![1.0; batch * length * 4]);
            values.insert(z, Value::new(z, vec![batch, length, 4], ones, None).unwrap());
        }
        values.retain(|point, _| request.record.contains(point));
        Ok(Observation { values, gradients: BTreeMap::new(), loss: loss.collect() })
    }

    fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Err(SubjectError::Input { reason: "the planted subject has no vocabulary".into() })
    }
}

#[test]
fn the_planted_head_is_found_and_proved() {
    let found = induction(&mut planted(Some((1, 0))), 2, Seed(1), RESAMPLING).unwrap();
    assert!((found.gain.mean - 3.0).abs() < 0.1, "{:?}", found.gain);
    for head in &found.heads {
        let is_it = (head.layer, head.head) == (1, 0);
        assert_eq!(head.score.low > 0.7, is_it, "{head:?}");
        let rise = head.loss.expect("all four heads are taken out");
        assert_eq!(rise.low > 2.9, is_it, "{head:?}");
        assert!(is_it || rise.mean.abs() < 1e-6);
    }
    assert!(found.proof.unwrap().1 > 0.99);
    assert!(finding(&found).contains("Head 0 of layer 1"));
    assert_eq!(found.table().unwrap().rows(), 4);
}

#[test]
fn scores_by_hand() {
    let length = 2 * PERIOD;
    // Head 0 looks at the token after the first occurrence alone, head 1 at the first token of all, head 2 at all earlier ones and itself evenly.
    let row = |head: usize, query: usize, key: usize| match head {
        0 => f32::from(u8::from(query > PERIOD && key == query - PERIOD + 1)),
        1 => f32::from(u8::from(key == 0)),
        _ => {
            if key <= query {
                1.0 / (query + 1) as f32
            } else {
                0.0
            }
        }
    };
    let of = |order: [usize; 3]| {
        let mut pattern = Vec::new();
        for head in order {
            for query in 0..length {
                pattern.extend((0..length).map(|key| row(head, query, key)));
            }
        }
        let point = HookPoint::block(Site::AttnPattern, 0);
        let data = ValueData::Real(pattern.repeat(SEQUENCES));
        scores(0, &Value::new(point, vec![SEQUENCES, 3, length, length], data, None).unwrap()).unwrap()
    };
    let found = of([0, 1, 2]);
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    let queries: Vec<f64> = (PERIOD + 1..length).map(|query| query as f64).collect();
    let over = |of: fn(f64) -> f64| queries.iter().map(|q| of(*q)).sum::<f64>() / queries.len() as f64;
    assert!(near(found[0].score.mean, 1.0) && near(found[0].elsewhere, over(|query| 1.0 / query)));
    assert!(near(found[1].score.mean, 0.0) && near(found[1].elsewhere, over(|query| 1.0 / query)));
    let even = over(|query| 1.0 / (query + 1.0));
    assert!(near(found[2].score.mean, even) && near(found[2].elsewhere, even));
    // Heads in another order have the scores in that order.
    let turned = of([2, 0, 1]);
    for (now, before) in [(0, 2), (1, 0), (2, 1)] {
        let told = |head: &InductionHead| (head.score.mean, head.elsewhere);
        assert_eq!(told(&turned[now]), told(&found[before]));
    }
}

#[test]
fn where_no_head_does_it_none_is_named() {
    let found = induction(&mut planted(None), 2, Seed(1), RESAMPLING).unwrap();
    assert!(found.heads.iter().all(|head| head.score.mean < 2.0 * head.elsewhere), "{found:?}");
    assert!(finding(&found).starts_with("No head"), "{}", finding(&found));
    assert!(found.gain.mean.abs() < 0.1);
}

#[test]
fn heads_that_never_learned_are_named_in_less_than_one_model_of_twenty() {
    let description = Description {
        vocab: 64,
        d_model: 16,
        heads: 4,
        key_value_heads: 4,
        head_dim: 4,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Dense { width: 16 }; 2],
        variation: Variation::default(),
    };
    let named = |seed: &u64| {
        let model = Model::initialise(description.clone(), Seed(*seed)).unwrap();
        let resampling = Resampling { replicates: 20, ..RESAMPLING };
        let found = induction(&mut ModelSubject::new(model), 1, Seed(*seed), resampling).unwrap();
        !finding(&found).starts_with("No head")
    };
    // Binomial with 200 draws of 0.05: above 18 in less than one of a hundred.
    let named = (0..200).filter(named).count();
    assert!(named <= 18, "{named} of 200");
}

#[test]
fn a_copy_has_no_token_twice_and_is_repeated() {
    let tokens = repeated(60, Seed(4)).unwrap();
    for sequence in 0..SEQUENCES {
        let ids = tokens.sequence(sequence);
        assert_eq!(ids[..PERIOD], ids[PERIOD..]);
        let mut distinct = ids[..PERIOD].to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), PERIOD);
    }
    let mut small = planted(None);
    small.shape.vocab = 10;
    assert!(induction(&mut small, 2, Seed(1), RESAMPLING).is_err());
}
