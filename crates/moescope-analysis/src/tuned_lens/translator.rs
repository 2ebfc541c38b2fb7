//! Translators: affine maps that start as the identity, and corrections by expert that start as nothing.
//!
//! A translator of its own for each expert would have as many numbers as the affine one times the experts,
//! and as few tokens to learn them from as an expert sees. A vector and a map of low rank for each expert are
//! learnt on top of the common translator instead: with 64 experts, a width of 2,048 and rank 4, about 1.2
//! million numbers and not 268 million.

use nalgebra::{DMatrix, DMatrixView};

/// A map of residual vectors whose parameters stand in one list.
pub(super) trait Translator: Sync {
    /// What tokens are translated from.
    type Input: Sync;

    /// The parameters at the beginning.
    fn start(&self) -> Vec<f32>;

    /// Translated vectors `[model, token]`.
    fn translate(&self, parameters: &[f32], input: &Self::Input) -> DMatrix<f32>;

    /// Gradient by the parameters, given that by the translated vectors.
    fn gradient(&self, parameters: &[f32], input: &Self::Input, pulled: &DMatrix<f32>) -> Vec<f32>;

    /// Some tokens of an input.
    fn select(&self, input: &Self::Input, tokens: &[usize]) -> Self::Input;
}

/// `h + A h + l b`, where `A` has no unit and `l` is the usual length of a vector.
pub(super) struct Affine {
    pub(super) width: usize,
    /// Usual length.
    pub(super) length: f32,
}

impl Affine {
    fn map<'a>(&self, parameters: &'a [f32]) -> DMatrixView<'a, f32> {
        DMatrixView::from_slice(parameters, self.width, self.width)
    }
}

impl Translator for Affine {
    type Input = DMatrix<f32>;

    fn start(&self) -> Vec<f32> {
        vec![0.0; self.width * (self.width + 1)]
    }

    fn translate(&self, parameters: &[f32], input: &DMatrix<f32>) -> DMatrix<f32> {
        let mut translated = input + self.map(parameters) * input;
        let bias = &parameters[self.width * self.width..];
        for mut column in translated.column_iter_mut() {
            column.iter_mut().zip(bias).for_each(|(x, bias)| *x += self.length * bias);
        }
        translated
    }

    fn gradient(&self, _: &[f32], input: &DMatrix<f32>, pulled: &DMatrix<f32>) -> Vec<f32> {
        let map = pulled * input.transpose();
        let bias = pulled.column_sum() * self.length;
        map.iter().chain(bias.iter()).copied().collect()
    }

    fn select(&self, input: &DMatrix<f32>, tokens: &[usize]) -> DMatrix<f32> {
        input.select_columns(tokens)
    }
}

/// What corrections by expert are made of: the vectors, what the affine translator makes of them, and the expert of each.
pub(super) struct Routed {
    pub(super) vectors: DMatrix<f32>,
    pub(super) translated: DMatrix<f32>,
    pub(super) experts: Vec<u32>,
}

/// `t + l b_e + U_e V_eᵀ h` for a token whose expert is `e`, where `t` is the affine translation of `h`.
pub(super) struct ByExpert {
    pub(super) width: usize,
    pub(super) length: f32,
    pub(super) experts: usize,
    pub(super) rank: usize,
    pub(super) seed: moescope_base::Seed,
}

impl ByExpert {
    /// Parameters of one expert: its vector, then `U[model, rank]`, then `V[model, rank]`.
    fn each(&self) -> usize {
        self.width * (1 + 2 * self.rank)
    }

    /// Vector, `U` and `V` of an expert.
    fn of<'a>(
        &self,
        parameters: &'a [f32],
        expert: u32,
    ) -> (&'a [f32], DMatrixView<'a, f32>, DMatrixView<'a, f32>) {
        let own = &parameters[expert as usize * self.each()..][..self.each()];
        let (bias, maps) = own.split_at(self.width);
        let (left, right) = maps.split_at(self.width * self.rank);
        let view = |of: &'a [f32]| DMatrixView::from_slice(of, self.width, self.rank);
        (bias, view(left), view(right))
    }
}

impl Translator for ByExpert {
    type Input = Routed;

    /// `V` is random, of columns of unit length, `U` zero: a correction of nothing that can learn.
    fn start(&self) -> Vec<f32> {
        let mut rng = self.seed.rng();
        let mut start = vec![0.0; self.experts * self.each()];
        for own in start.chunks_exact_mut(self.each()) {
            for weight in &mut own[self.width * (1 + self.rank)..] {
                *weight = crate::matrix::normal(&mut rng) as f32 / (self.width as f32).sqrt();
            }
        }
        start
    }

    fn translate(&self, parameters: &[f32], input: &Routed) -> DMatrix<f32> {
        let mut translated = input.translated.clone();
        for (token, mut column) in translated.column_iter_mut().enumerate() {
            let (bias, left, right) = self.of(parameters, input.experts[token]);
            column += left * right.tr_mul(&input.vectors.column(token));
            column.iter_mut().zip(bias).for_each(|(x, bias)| *x += self.length * bias);
        }
        translated
    }

    fn gradient(&self, parameters: &[f32], input: &Routed, pulled: &DMatrix<f32>) -> Vec<f32> {
        let mut gradient = vec![0.0; parameters.len()];
        for (token, pulled) in pulled.column_iter().enumerate() {
            let expert = input.experts[token];
            let (_, left, right) = self.of(parameters, expert);
            let vector = input.vectors.column(token);
            let (read, written) = (right.tr_mul(&vector), left.tr_mul(&pulled)); // [rank]
            let own = &mut gradient[expert as usize * self.each()..][..self.each()];
            for at in 0..self.width {
                own[at] += self.length * pulled[at];
                for rank in 0..self.rank {
                    own[self.width * (1 + rank) + at] += pulled[at] * read[rank];
                    own[self.width * (1 + self.rank + rank) + at] += vector[at] * written[rank];
                }
            }
        }
        gradient
    }

    fn select(&self, input: &Routed, tokens: &[usize]) -> Routed {
        Routed {
            vectors: input.vectors.select_columns(tokens),
            translated: input.translated.select_columns(tokens),
            experts: tokens.iter().map(|token| input.experts[*token]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum of the translated entries with weights, and its gradient by the parameters.
    fn check<T: Translator>(translator: &T, input: &T::Input, tokens: usize, width: usize) {
        let weights = DMatrix::from_fn(width, tokens, |row, token| ((row + 2 * token) as f32).sin());
        let parameters: Vec<f32> =
            (0..translator.start().len()).map(|i| ((3 * i) as f32).cos() * 0.3).collect();
        let gradient = translator.gradient(&parameters, input, &weights);
        for at in 0..parameters.len() {
            let moved = |by: f32| {
                let mut moved = parameters.clone();
                moved[at] += by;
                translator.translate(&moved, input).component_mul(&weights).sum()
            };
            let wanted = (moved(0.05) - moved(-0.05)) / 0.1;
            assert!(
                (gradient[at] - wanted).abs() < 1e-3 * (1.0 + wanted.abs()),
                "{at}: {} {wanted}",
                gradient[at]
            );
        }
    }

    fn vectors(shift: usize) -> DMatrix<f32> {
        DMatrix::from_fn(3, 4, |row, token| ((row * 3 + token + shift) as f32).sin())
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        check(&Affine { width: 3, length: 2.0 }, &vectors(0), 4, 3);
        let routed = Routed { vectors: vectors(0), translated: vectors(7), experts: vec![1, 0, 1, 1] };
        let by_expert = ByExpert { width: 3, length: 2.0, experts: 2, rank: 2, seed: moescope_base::Seed(1) };
        check(&by_expert, &routed, 4, 3);
    }

    #[test]
    fn training_begins_at_the_logit_lens_and_at_no_correction() {
        let affine = Affine { width: 3, length: 2.0 };
        assert_eq!(affine.translate(&affine.start(), &vectors(1)), vectors(1));
        let by_expert = ByExpert { width: 3, length: 2.0, experts: 2, rank: 2, seed: moescope_base::Seed(1) };
        let routed = Routed { vectors: vectors(0), translated: vectors(7), experts: vec![1, 0, 1, 1] };
        assert_eq!(by_expert.translate(&by_expert.start(), &routed), vectors(7));
        assert_eq!(by_expert.select(&routed, &[2, 1]).experts, [1, 0]);
    }
}
