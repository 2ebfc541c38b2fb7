//! A subject whose every answer is known.

use moescope_base::{
    FeedForwardShape, HookPoint, Observation, Request, Site, Subject, SubjectError, SubjectShape, Tokens,
    Value, ValueData,
};

use crate::TokenTable;

/// Token `t` goes to experts `t % 4` and `(t + 1) % 4` of layer 1 with scores 0.6 and 0.3.
pub(crate) struct Planted {
    shape: SubjectShape,
}

impl Planted {
    pub(crate) fn new() -> Planted {
        let routed = FeedForwardShape::Routed { experts: 4, per_token: 2, expert_width: 2 };
        let feed_forward = vec![FeedForwardShape::Dense { width: 3 }, routed];
        Planted {
            shape: SubjectShape {
                d_model: 2,
                vocab: 4,
                heads: 1,
                head_dim: 2,
                feed_forward,
                options: Default::default(),
            },
        }
    }
}

fn answer(point: HookPoint, tokens: &Tokens) -> Value {
    let per_token = |width: usize, number: fn(u32, usize) -> f32| {
        let numbers =
            tokens.ids().iter().flat_map(|id| (0..width).map(move |column| number(*id, column))).collect();
        (vec![tokens.batch(), tokens.positions(), width], ValueData::Real(numbers), None)
    };
    let (shape, data, rows) = match point.site() {
        Site::RouterLogits => per_token(4, |id, expert| 3.0 - ((expert + 4 - id as usize % 4) % 4) as f32),
        Site::RouterScores | Site::RouterSelect => {
            per_token(4, |id, expert| match (expert + 4 - id as usize % 4) % 4 {
                0 => 0.6,
                1 => 0.3,
                2 => 0.1,
                _ => 0.0,
            })
        }
        Site::RouterWeights => per_token(2, |_, slot| [0.6, 0.3][slot]),
        Site::RouterIndices => {
            let choices =
                tokens.ids().iter().flat_map(|id| [i64::from(id % 4), i64::from((id + 1) % 4)]).collect();
            (vec![tokens.batch(), tokens.positions(), 2], ValueData::Integer(choices), None)
        }
        Site::ExpertPost => {
            let expert = point.expert_index().unwrap() as u32;
            let goes = |id: u32| id % 4 == expert || (id + 1) % 4 == expert;
            let rows: Vec<u32> =
                (0..tokens.len() as u32).filter(|t| goes(tokens.ids()[*t as usize])).collect();
            let numbers = rows.iter().flat_map(|t| [*t as f32, -1.0]).collect();
            (vec![rows.len(), 2], ValueData::Real(numbers), Some(rows))
        }
        Site::Logits => per_token(4, |id, column| id as f32 + 0.25 * column as f32),
        _ => per_token(2, |id, column| id as f32 - column as f32),
    };
    Value::new(point, shape, data, rows).unwrap()
}

impl Subject for Planted {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let answers =
            |points: &[HookPoint]| points.iter().map(|p| (*p, answer(*p, request.tokens))).collect();
        let losses = request.tokens.len() - request.tokens.batch();
        Ok(Observation {
            values: answers(request.record),
            gradients: answers(request.gradients),
            loss: (0..losses).map(|i| i as f32).collect(),
        })
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Ok(residual.to_vec())
    }
}

/// One sequence with its table.
pub(crate) fn batch(ids: &[u32]) -> (Tokens, TokenTable) {
    let count = ids.len();
    let tokens = Tokens::new(ids.to_vec(), 1, count).unwrap();
    let table = TokenTable {
        ids: ids.to_vec(),
        next_ids: tokens.next_ids(0),
        domains: ids.iter().map(|id| (*id % 2) as u16).collect(),
        documents: vec![7; count],
        positions: (0..count as u32).collect(),
        classes: vec![1; count],
        domain_names: vec!["prose".into(), "code".into()],
        class_names: vec!["space".into(), "word".into()],
    };
    (tokens, table)
}
