//! How much one row of a recorded value takes.

use std::collections::BTreeMap;

use moescope_base::{Axis, HookPoint, Site};

use crate::description::{Description, FeedForward};

impl Description {
    /// Bytes of what is recorded at these points of so many tokens, in sequences of `positions`.
    ///
    /// Plans of memory and of disk rest on it, before a pass is made.
    ///
    /// - **Unit:** bytes of numbers; names and headers of files come on top.
    /// - **Does not show:** what a pass holds besides while it computes them.
    ///
    /// Exact but for single experts: the rows of all recorded experts of a site are counted as those of every choice, or of every
    /// token for each expert where that is less.
    pub fn recorded_bytes(&self, points: &[HookPoint], tokens: u64, positions: usize) -> u64 {
        let mut bytes = 0_u64;
        // The rows of experts are those that tokens choose: all points of a site together hold no more than every choice.
        let mut of_experts = BTreeMap::<(usize, Site), u64>::new();
        for point in points {
            match (point.layer(), point.expert_index()) {
                (Some(layer), Some(_)) => *of_experts.entry((layer, point.site())).or_default() += 1,
                _ => {
                    let row = self.recorded_row(*point, positions);
                    bytes = bytes.saturating_add(tokens.saturating_mul(row));
                }
            }
        }
        for ((layer, site), experts) in of_experts {
            let chosen =
                self.feed_forward.get(layer).and_then(FeedForward::routed).map_or(0, |r| r.per_token);
            let row = self.recorded_row(HookPoint::expert(site, layer, 0), positions);
            bytes =
                bytes.saturating_add(experts.min(chosen as u64).saturating_mul(tokens).saturating_mul(row));
        }
        bytes
    }

    /// Bytes of one row of a value as it is recorded: what a site has for one token, of an attention site for one query with
    /// `positions` keys, of a single expert for one of its tokens. Numbers are `f32`, choices of experts `i64`.
    ///
    /// - **Unit:** bytes; a file adds its header, and for single experts eight bytes for the token of each row.
    ///
    /// Zero for a site that the layer does not have.
    pub fn recorded_row(&self, point: HookPoint, positions: usize) -> u64 {
        let layer = point.layer().and_then(|layer| self.feed_forward.get(layer));
        let routed = layer.and_then(FeedForward::routed);
        let attention = &self.variation.attention;
        let latent = attention.latent.as_ref();
        let queries = attention.query_experts.as_ref();
        let width = match point.site() {
            Site::AttnQ => self.heads * self.head_dim,
            Site::AttnK => latent.map_or(self.key_value_heads, |_| self.heads) * self.head_dim,
            Site::AttnV => match latent {
                Some(latent) => self.heads * latent.value_dim,
                None => self.key_value_heads * self.head_dim,
            },
            Site::AttnZ => self.heads * latent.map_or(self.head_dim, |latent| latent.value_dim),
            Site::AttnScores | Site::AttnPattern => self.heads * positions,
            Site::AttnResult => self.heads * self.d_model,
            Site::AttnScale | Site::MlpScale | Site::FinalScale | Site::SharedWeight => 1,
            Site::MlpPre | Site::MlpPreLinear | Site::MlpPost => match layer {
                Some(FeedForward::Dense { width } | FeedForward::TopKDense { width, .. }) => *width,
                _ => 0,
            },
            Site::RouterLogits | Site::RouterScores | Site::RouterSelect => routed.map_or(0, |r| r.experts),
            Site::RouterIndices => routed.map_or(0, |r| 2 * r.per_token),
            Site::RouterWeights => routed.map_or(0, |r| r.per_token),
            Site::AttnRouterLogits => queries.map_or(0, |q| q.experts),
            Site::AttnRouterIndices => queries.map_or(0, |q| 2 * q.per_token),
            Site::AttnRouterWeights => queries.map_or(0, |q| q.per_token),
            Site::ExpertGate | Site::ExpertPre | Site::ExpertPost => routed.map_or(0, |r| r.expert_width),
            Site::SharedGate | Site::SharedPre | Site::SharedPost => {
                routed.and_then(|r| r.shared).map_or(0, |shared| shared.width)
            }
            Site::Logits => self.vocab,
            _ => self.d_model,
        };
        4 * width as u64
    }

    /// The axes of a value with their lengths in this model; none for an axis whose length the input decides.
    ///
    /// - **Shape:** one entry for each axis of the [site](Site::axes), outermost first.
    /// - **Does not show:** how many rows a single expert will have, which the router decides.
    ///
    /// A length is zero for a site that the layer does not have.
    pub fn axis_lengths(&self, point: HookPoint) -> Vec<(Axis, Option<usize>)> {
        let site = point.site();
        let number = if site.has_gradient() || site.is_scale() { 4 } else { 8 };
        let length = |axis: Axis| match axis {
            Axis::Batch | Axis::Pos | Axis::Row | Axis::Query | Axis::Key => None,
            Axis::Head => Some(self.heads),
            Axis::Model => Some(self.d_model),
            // One number of a row for each entry: these are the last axes of their sites.
            _ => Some((self.recorded_row(point, 1) / number) as usize),
        };
        site.axes().iter().map(|axis| (*axis, length(*axis))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::description::Router;
    use crate::testing::{self, run};
    use moescope_base::ValueData;

    #[test]
    fn rows_are_as_wide_as_what_is_recorded() {
        let mut all = vec![
            ("dense", testing::dense_description()),
            ("routed", testing::routed_description(Router::learned(true))),
        ];
        all.extend(testing::varied());
        for (name, description) in all {
            let mut subject = testing::subject(&description);
            let points = description.subject_shape().hook_points();
            for (point, value) in run(&mut subject, &points, &[]).values {
                let rows = value.rows().map_or(18, <[u32]>::len) as u64;
                let bytes = match value.data() {
                    ValueData::Real(numbers) => 4 * numbers.len() as u64,
                    ValueData::Integer(numbers) => 8 * numbers.len() as u64,
                };
                assert_eq!(bytes, rows * description.recorded_row(point, 9), "{name} {point}");
                let lengths = description.axis_lengths(point);
                assert_eq!(lengths.len(), value.shape().len());
                for ((axis, length), found) in lengths.iter().zip(value.shape()) {
                    assert!(
                        length.is_none_or(|length| length == *found),
                        "{name} {point} {axis}: {length:?}, {found}"
                    );
                }
            }
        }
    }
}
