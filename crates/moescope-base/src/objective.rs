/// What a gradient is the gradient of.
///
/// The choice of experts is held in every case: gradients flow through the chosen experts and their weights, never through
/// which experts were chosen, since that has no derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Objective<'a> {
    /// The next-token loss, summed over all tokens, in nats.
    #[default]
    Loss,
    /// A weighted sum of logits, of every sequence of the batch alike, summed over the sequences.
    Logits(&'a [LogitTerm]),
}

/// One logit of a weighted sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitTerm {
    /// Whose logit.
    pub token: u32,
    /// Position at which it is read: that of the token before the one it predicts.
    pub position: usize,
    /// What it is multiplied by: 1 and −1 make a difference of two.
    pub factor: f32,
}
