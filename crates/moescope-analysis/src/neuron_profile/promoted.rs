//! The tokens that a neuron makes likelier.

use moescope_base::WeightMatrix;

use crate::AnalysisError;
use crate::instrument::Material;
use crate::next_token::{less, most_probable};

/// Ids of the tokens with the largest logits along what each neuron writes, `[neuron][rank]`: its column of down, turned round where `signs`
/// is negative, read by the final norm and the unembedding as if it were the whole stream, less what these say of no stream at all: a norm or
/// unembedding with a bias promotes its own tokens whatever is written.
///
/// None of a neuron that writes nothing. It shows a direction alone: the rest of the stream and later layers may take it away.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn promoted(
    material: &mut Material<'_>,
    down: &WeightMatrix,
    neurons: &[(usize, f64)],
    count: usize,
) -> Result<Vec<Vec<u32>>, AnalysisError> {
    let mut found = Vec::new();
    let bias = material.subject.unembed(&vec![0.0; down.rows()])?;
    for (neuron, sign) in neurons {
        let column: Vec<f64> = (0..down.rows()).map(|row| f64::from(down.row(row)[*neuron])).collect();
        let square: f64 = column.iter().map(|x| x * x).sum();
        if square == 0.0 || *sign == 0.0 {
            found.push(Vec::new());
            continue;
        }
        // As long as a stream that a norm leaves as it is: beside it the constant in the norm's denominator is nothing.
        let scale = sign.signum() * (down.rows() as f64 / square).sqrt();
        let direction: Vec<f32> = column.iter().map(|x| (x * scale) as f32).collect();
        let logits = material.subject.unembed(&direction)?;
        found.push(most_probable(&less(&logits, &bias), count));
    }
    Ok(found)
}
