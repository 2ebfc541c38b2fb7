use moescope_base::{Column, Table};

use super::halves::Halves;
use super::{Foretold, LayerCounts, RouteCounts};
use crate::AnalysisError;

impl RouteCounts {
    /// What position, token and bigram foretell of the routes of each layer; nothing where all documents fell into one half.
    pub fn foretold(&self) -> Vec<(usize, Foretold)> {
        let rows = self.plan.token_rows as u32;
        let of = |l: &'_ LayerCounts| {
            let halves = Halves {
                token: l.tokens.by_half(),
                position: l.position.parted(),
                bigrams: (&self.sampled[0], &l.bigrams),
            };
            let found = halves.foretold(l.per_token, |id| (id % rows) as usize);
            found.into_iter().flatten().map(|foretold| (l.layer, foretold)).collect::<Vec<_>>()
        };
        self.layers().iter().flat_map(of).collect()
    }

    /// [`foretold`](Self::foretold) as a table, none without rows.
    pub(super) fn foretold_table(&self) -> Result<Option<Table>, AnalysisError> {
        let found = self.foretold();
        if found.is_empty() {
            return Ok(None);
        }
        let real = |of: fn(&Foretold) -> f64| found.iter().map(|row| of(&row.1)).collect::<Vec<f64>>();
        let share = "share of experts";
        let columns = vec![
            Column::key(
                "predictor",
                "what the guess is made from",
                found.iter().map(|row| row.1.predictor.into()).collect(),
            ),
            Column::integer_key("layer", "", "block", found.iter().map(|row| row.0 as i64).collect()),
            Column::estimate(
                "overlap",
                share,
                "of a token's experts that are guessed from the other half of the documents",
                real(|f| f.overlap),
            ),
            Column::null(
                "overlap",
                share,
                "the guess is the most used experts of the layer",
                real(|f| f.load),
            ),
            Column::observations("overlap", "documents", vec![self.documents() as i64; found.len()]),
            Column::estimate(
                "overlap_error",
                share,
                "standard error of keeping some bigrams only; 0 where all were kept",
                real(|f| f.error),
            ),
            Column::estimate(
                "between_halves",
                share,
                "overlap on the second half of the documents less that on the first",
                real(|f| f.between_halves),
            ),
            Column::estimate("seen", "share of slots", "the other half has the case", real(|f| f.seen)),
        ];
        let method = "Documents are halved by a hash of their tokens. The guess is as many experts as a token chooses, those most frequent in the same \
                      case of the other half; of a bigram that it does not have, those of the token. Where token ids share rows, guesses are worse \
                      than they could be. Does not show that the router looks at the token and not at what goes with it.";
        let title = "How much of a route is known from the text alone";
        Ok(Some(Table::new("counted_predictability", title, method, columns)?))
    }
}
