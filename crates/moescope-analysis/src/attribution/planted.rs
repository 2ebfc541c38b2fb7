//! A subject whose attributions are known: linear, but for a router with a hard threshold.

use std::collections::BTreeMap;

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, RouteEdit, Site, Subject, SubjectError,
    SubjectShape, TokenSelection, Value, ValueData, ValueEdit,
};

pub(super) const WIDTH: usize = 3;
/// How the loss reads the residual stream.
pub(super) const READ: [f32; WIDTH] = [0.5, -1.0, 0.25];

/// How the planted subject chooses one of its two experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routing {
    /// No router: a dense layer that computes what the first expert does.
    Dense,
    /// By the id of the token, which no edit of a vector changes.
    ById,
    /// By whether the first coordinate of the attention output is positive.
    BySign,
}

/// One block. `attn_out[token]` depends on the id alone, `mlp_out` scales it by the expert's factor, and the loss of a
/// token is `READ · (attn_out + mlp_out)`.
pub(super) struct Planted {
    shape: SubjectShape,
    routing: Routing,
    /// What each expert multiplies its input by.
    factors: [f32; 2],
}

impl Planted {
    pub(super) fn new(routing: Routing, factors: [f32; 2]) -> Planted {
        let feed_forward = vec![match routing {
            Routing::Dense => FeedForwardShape::Dense { width: 4 },
            _ => FeedForwardShape::Routed { experts: 2, per_token: 1, expert_width: 4 },
        }];
        let shape = SubjectShape {
            d_model: WIDTH,
            vocab: 64,
            heads: 1,
            head_dim: WIDTH,
            feed_forward,
            options: Default::default(),
        };
        Planted { shape, routing, factors }
    }

    fn expert(&self, id: u32, input: &[f32]) -> usize {
        match self.routing {
            Routing::Dense => 0,
            Routing::ById => id as usize % 2,
            Routing::BySign => usize::from(input[0] > 0.0),
        }
    }
}

impl Subject for Planted {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let tokens = request.tokens;
        let (attention_point, mlp_point) =
            (HookPoint::block(Site::AttnOut, 0), HookPoint::block(Site::MlpOut, 0));
        let mut attention: Vec<f32> = tokens.ids().iter().flat_map(|id| embed(*id)).collect();
        apply(request.edits, attention_point, &mut attention);
        let replayed = replayed(request.edits);
        let experts: Vec<usize> = (0..tokens.len())
            .map(|t| match &replayed {
                Some(choices) => choices[t] as usize,
                None => self.expert(tokens.ids()[t], &attention[t * WIDTH..]),
            })
            .collect();
        let mut mlp: Vec<f32> =
            attention.iter().enumerate().map(|(i, x)| self.factors[experts[i / WIDTH]] * x).collect();
        apply(request.edits, mlp_point, &mut mlp);

        let read =
            |t: usize| (0..WIDTH).map(|c| READ[c] * (attention[t * WIDTH + c] + mlp[t * WIDTH + c])).sum();
        let followed = |t: &usize| !(t + 1).is_multiple_of(tokens.positions());
        let loss = (0..tokens.len()).filter(followed).map(read).collect();
        let slope = |factor: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (0..tokens.len())
                .flat_map(|t| READ.map(|r| if followed(&t) { r * factor(t) } else { 0.0 }))
                .collect()
        };
        let shape = [tokens.batch(), tokens.positions()];
        let real = |point, data: &Vec<f32>| {
            Value::new(point, vec![shape[0], shape[1], WIDTH], ValueData::Real(data.clone()), None).unwrap()
        };
        let mut values = BTreeMap::from([
            (attention_point, real(attention_point, &attention)),
            (mlp_point, real(mlp_point, &mlp)),
        ]);
        if self.routing != Routing::Dense {
            let point = HookPoint::block(Site::RouterIndices, 0);
            let chosen = experts.iter().map(|e| *e as i64).collect();
            let value =
                Value::new(point, vec![shape[0], shape[1], 1], ValueData::Integer(chosen), None).unwrap();
            values.insert(point, value);
        }
        values.retain(|point, _| request.record.contains(point));
        let through_both = slope(&|t| 1.0 + self.factors[experts[t]]);
        let mut gradients = BTreeMap::from([
            (attention_point, real(attention_point, &through_both)),
            (mlp_point, real(mlp_point, &slope(&|_| 1.0))),
        ]);
        gradients.retain(|point, _| request.gradients.contains(point));
        Ok(Observation { values, gradients, loss })
    }

    fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Err(SubjectError::Input { reason: "the planted subject has no vocabulary".into() })
    }
}

/// Different for every id; the first coordinate has both signs, and the mean vector is far from zero, so that a flip to the
/// other expert matters also when the mean replaces the vector.
pub(super) fn embed(id: u32) -> [f32; WIDTH] {
    let x = id as f32;
    [(1.7 * x).sin(), (0.9 * x + 1.0).cos() + 1.5, (2.3 * x + 0.5).sin()]
}

fn apply(edits: &[Edit], point: HookPoint, values: &mut [f32]) {
    for edit in edits {
        if let Edit::Value { at, tokens: TokenSelection::Rows(rows), change: ValueEdit::Set { vector } } =
            edit
            && *at == point
        {
            rows.iter().for_each(|r| values[*r as usize * WIDTH..][..WIDTH].copy_from_slice(vector));
        }
    }
}

fn replayed(edits: &[Edit]) -> Option<Vec<u32>> {
    edits.iter().find_map(|edit| match edit {
        Edit::Route { change: RouteEdit::Replay { choices }, .. } => Some(choices.clone()),
        _ => None,
    })
}
