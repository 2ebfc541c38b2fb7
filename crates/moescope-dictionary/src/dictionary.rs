//! A sparse dictionary: how features are read from activations, and what they write.

use moescope_engine::{Activation, Mode, Tape, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::{DictionaryError, Rows};

/// Which features of a token stay active.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// All that are positive.
    Relu,
    /// The `k` largest of those that are positive.
    TopK {
        /// Active features of a token at most.
        k: usize,
    },
    /// Those above a threshold of their own, `thresholds[feature]`, none of which is negative.
    JumpRelu {
        /// In the unit of the features.
        thresholds: Tensor,
    },
}

/// Where a dictionary belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The model, as it was named.
    pub model: String,
    /// Hook name of what is read.
    pub hook: String,
    /// Hook name of what is written, if it is another site.
    pub target_hook: Option<String>,
}

/// A sparse autoencoder, or a transcoder from one site to another.
///
/// `features = rule(encoder · (x - bias) + encoder_bias)` and `written = decoder · features + bias`; a transcoder does not subtract the bias,
/// which is of the other site.
///
/// - **Shape:** `x[token, input]` → `features[token, feature]` → `written[token, target]`.
/// - **Unit:** features and written rows are in the unit of the target. Trained here, every feature writes a direction of length 1, so
///   a feature is the length of what it adds.
/// - **Does not show:** that a feature means one thing, nor that the model uses it: a dictionary of random vectors has
///   features as well. Measure it against a null.
/// - **Source:** Bricken et al. 2023, "Towards Monosemanticity"; transcoders: Dunefsky, Chlenski and Nanda 2024.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    pub(crate) rule: Rule,
    /// `[feature, input]`.
    pub(crate) encoder: Tensor,
    /// `[feature]`.
    pub(crate) encoder_bias: Tensor,
    /// `[target, feature]`.
    pub(crate) decoder: Tensor,
    /// `[target]`.
    pub(crate) bias: Tensor,
    /// Whether the bias is subtracted from the input.
    pub(crate) centred: bool,
    /// Where it belongs.
    pub(crate) place: Place,
}

/// The tensors of a [`Dictionary`].
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Which features stay active.
    pub rule: Rule,
    /// `[feature, input]`.
    pub encoder: Tensor,
    /// `[feature]`.
    pub encoder_bias: Tensor,
    /// `[target, feature]`.
    pub decoder: Tensor,
    /// `[target]`.
    pub bias: Tensor,
    /// Whether the bias is subtracted from the input first; only where input and target are as wide.
    pub centred: bool,
}

impl Dictionary {
    /// A dictionary of these tensors.
    ///
    /// # Errors
    /// [`DictionaryError::Width`] for tensors that do not fit each other.
    pub fn new(parts: Parts, place: Place) -> Result<Dictionary, DictionaryError> {
        let Parts { rule, encoder, encoder_bias, decoder, bias, centred } = parts;
        let features = encoder.rows();
        let fits = |what, found, wanted| match found == wanted {
            true => Ok(()),
            false => Err(DictionaryError::Width { what, found, wanted }),
        };
        fits("the bias of the encoder", encoder_bias.len(), features)?;
        fits("the decoder", decoder.columns(), features)?;
        fits("the bias", bias.len(), decoder.rows())?;
        match &rule {
            Rule::JumpRelu { thresholds } => fits("the list of thresholds", thresholds.len(), features)?,
            Rule::TopK { k } if *k == 0 || *k > features => {
                let wanted = format!("1 to {features}, the number of features");
                return Err(DictionaryError::Setting { setting: "k", found: k.to_string(), wanted });
            }
            Rule::TopK { .. } | Rule::Relu => {}
        }
        if centred {
            fits("the bias that is subtracted", bias.len(), encoder.columns())?;
        }
        Ok(Dictionary { rule, encoder, encoder_bias, decoder, bias, centred, place })
    }

    /// Which features stay active.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Where it belongs.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.encoder.rows()
    }

    /// Width of what is read.
    pub fn input_width(&self) -> usize {
        self.encoder.columns()
    }

    /// Width of what is written.
    pub fn target_width(&self) -> usize {
        self.decoder.rows()
    }

    /// Whether it writes another site than it reads.
    pub fn is_transcoder(&self) -> bool {
        self.place.target_hook.is_some()
    }

    /// What all rows have in common, `[target]`, in the unit of the target.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What the features write, `[feature, target]`, one row for each.
    pub fn directions(&self) -> Tensor {
        transposed(&self.decoder)
    }

    /// Features of rows, `[token, feature]`: zero or positive, in the unit of the target.
    ///
    /// # Errors
    /// [`DictionaryError::Width`].
    pub fn encode(&self, x: &Tensor) -> Result<Tensor, DictionaryError> {
        let (found, wanted) = (x.columns(), self.input_width());
        if found != wanted {
            return Err(DictionaryError::Width { what: "the input", found, wanted });
        }
        let mut tape = Tape::new(Mode::Inference);
        let x = tape.constant(x.clone());
        let features = self.features_on(&mut tape, x)?;
        Ok(tape.value(features).clone())
    }

    fn features_on<'w>(&'w self, tape: &mut Tape<'w>, mut x: Var) -> Result<Var, DictionaryError> {
        if self.centred {
            let minus = self.bias.data().iter().map(|b| -b).collect();
            let minus = tape.constant(Tensor::new([self.bias.len()], minus)?);
            x = tape.add_bias(x, minus)?;
        }
        let (encoder, bias) = (tape.frozen(&self.encoder), tape.frozen(&self.encoder_bias));
        let product = tape.linear(x, encoder)?;
        let before = tape.add_bias(product, bias)?;
        let positive = tape.activate(before, Activation::Relu)?;
        Ok(match &self.rule {
            Rule::Relu => positive,
            Rule::TopK { k } => tape.top_k_activation(positive, *k)?,
            Rule::JumpRelu { thresholds } => {
                let thresholds = tape.frozen(thresholds);
                // The thresholds decide nothing but the way back by this width.
                tape.jump_relu(positive, thresholds, 1.0)?
            }
        })
    }

    /// What features write, `[token, target]`, the bias included.
    ///
    /// # Errors
    /// [`DictionaryError::Width`] when there are not as many features.
    pub fn decode(&self, features: &Tensor) -> Result<Tensor, DictionaryError> {
        let (found, wanted) = (features.columns(), self.features());
        if found != wanted {
            return Err(DictionaryError::Width { what: "the list of features", found, wanted });
        }
        let mut tape = Tape::new(Mode::Inference);
        let features = tape.constant(features.clone());
        let (decoder, bias) = (tape.frozen(&self.decoder), tape.frozen(&self.bias));
        let product = tape.linear(features, decoder)?;
        let written = tape.add_bias(product, bias)?;
        Ok(tape.value(written).clone())
    }

    /// Features of rows and what they write.
    ///
    /// # Errors
    /// [`DictionaryError::Width`].
    pub fn reconstruct(&self, rows: &Rows) -> Result<(Tensor, Tensor), DictionaryError> {
        rows.require_widths(self.input_width(), self.target_width())?;
        let features = self.encode(&rows.input)?;
        let written = self.decode(&features)?;
        Ok((features, written))
    }
}

/// Rows as columns.
pub(crate) fn transposed(x: &Tensor) -> Tensor {
    let (rows, columns) = (x.rows(), x.columns());
    let mut out = Tensor::zeros([columns, rows]);
    for (row, entries) in x.data().chunks_exact(columns.max(1)).enumerate() {
        for (column, entry) in entries.iter().enumerate() {
            out.data_mut()[column * rows + row] = *entry;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::new(shape, data.to_vec()).unwrap()
    }

    fn by_hand(rule: Rule) -> Dictionary {
        let parts = Parts {
            rule,
            encoder: tensor(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
            encoder_bias: tensor(&[3], &[0.0, -1.0, 0.5]),
            decoder: tensor(&[2, 3], &[1.0, 0.0, 0.6, 0.0, 1.0, 0.8]),
            bias: tensor(&[2], &[1.0, 2.0]),
            centred: true,
        };
        Dictionary::new(parts, Place::default()).unwrap()
    }

    #[test]
    fn features_and_what_they_write_by_hand() {
        let x = tensor(&[1, 2], &[2.0, 4.5]); // less the bias: 1, 2.5; before the rule: 1, 1.5, 4
        for (rule, features, written) in [
            (Rule::Relu, [1.0, 1.5, 4.0], [1.0 + 1.0 + 2.4, 2.0 + 1.5 + 3.2]),
            (Rule::TopK { k: 2 }, [0.0, 1.5, 4.0], [1.0 + 2.4, 2.0 + 1.5 + 3.2]),
            (Rule::JumpRelu { thresholds: tensor(&[3], &[0.5, 1.5, 2.0]) }, [1.0, 0.0, 4.0], [4.4, 5.2]),
        ] {
            let dictionary = by_hand(rule);
            let (found, out) = dictionary.reconstruct(&Rows::of(x.clone())).unwrap();
            assert_eq!(found.data(), features);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(out.data().iter().zip(&written).all(near), "{out:?}");
        }
        assert_eq!(by_hand(Rule::Relu).directions().data(), [1.0, 0.0, 0.0, 1.0, 0.6, 0.8]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let wide = tensor(&[1, 3], &[0.0; 3]);
        assert!(by_hand(Rule::Relu).encode(&wide).unwrap_err().to_string().contains("3 wide, wanted 2"));
        assert!(by_hand(Rule::Relu).decode(&tensor(&[1, 2], &[0.0; 2])).is_err());
        let parts = Parts {
            rule: Rule::TopK { k: 4 },
            encoder: Tensor::zeros([3, 2]),
            encoder_bias: Tensor::zeros([3]),
            decoder: Tensor::zeros([2, 3]),
            bias: Tensor::zeros([2]),
            centred: true,
        };
        assert!(Dictionary::new(parts.clone(), Place::default()).unwrap_err().to_string().contains("1 to 3"));
        let parts = Parts { rule: Rule::Relu, bias: Tensor::zeros([3]), ..parts };
        assert!(Dictionary::new(parts, Place::default()).is_err());
    }
}
