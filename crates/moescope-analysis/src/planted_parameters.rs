//! Weights whose truth is known, for tests.

use moescope_base::{
    FeedForwardShape, Parameters, Projection, Seed, SubjectError, SubjectShape, WeightMatrix,
};
use rand_chacha::ChaCha8Rng;

use crate::matrix::normal;

/// One routed block with these weights.
#[derive(Clone, Debug)]
pub(crate) struct PlantedParameters {
    pub(crate) router: Option<WeightMatrix>,
    /// Gate, up and down of each expert.
    pub(crate) experts: Vec<[WeightMatrix; 3]>,
}

pub(crate) fn gaussian(rows: usize, columns: usize, rng: &mut ChaCha8Rng) -> WeightMatrix {
    let data = (0..rows * columns).map(|_| normal(rng) as f32).collect();
    WeightMatrix::new(columns, data).unwrap()
}

impl PlantedParameters {
    /// Independent Gaussian experts and router.
    pub(crate) fn gaussian(experts: usize, neurons: usize, width: usize, seed: u64) -> PlantedParameters {
        let mut rng = Seed(seed).child("planted weights").rng();
        let shapes = [(neurons, width), (neurons, width), (width, neurons)];
        let router = Some(gaussian(experts, width, &mut rng));
        let mut expert = || shapes.map(|(rows, columns)| gaussian(rows, columns, &mut rng));
        PlantedParameters { router, experts: (0..experts).map(|_| expert()).collect() }
    }

    /// The same expert with its neurons in another order: neuron `i` is what `order[i]` was.
    pub(crate) fn reorder(&mut self, expert: usize, order: &[usize]) {
        let [gate, up, down] = &mut self.experts[expert];
        for matrix in [gate, up] {
            let data = order.iter().flat_map(|neuron| matrix.row(*neuron).to_vec()).collect();
            *matrix = WeightMatrix::new(matrix.columns(), data).unwrap();
        }
        let rows = 0..down.rows();
        let data = rows.flat_map(|row| order.iter().map(move |neuron| (row, *neuron)));
        let data = data.map(|(row, neuron)| down.row(row)[neuron]).collect();
        *down = WeightMatrix::new(down.columns(), data).unwrap();
    }

    /// The block as block 0 of a subject.
    pub(crate) fn shape(&self, per_token: usize) -> SubjectShape {
        let gate = &self.experts[0][0];
        let (experts, expert_width) = (self.experts.len(), gate.rows());
        SubjectShape {
            d_model: gate.columns(),
            vocab: 1,
            heads: 1,
            head_dim: 1,
            feed_forward: vec![FeedForwardShape::Routed { experts, per_token, expert_width }],
            options: Default::default(),
        }
    }
}

impl Parameters for PlantedParameters {
    fn router(&mut self, _: usize) -> Result<Option<WeightMatrix>, SubjectError> {
        Ok(self.router.clone())
    }

    fn expert(
        &mut self,
        _: usize,
        expert: usize,
        projection: Projection,
    ) -> Result<Option<WeightMatrix>, SubjectError> {
        Ok(Some(self.experts[expert][projection as usize].clone()))
    }
}
