use moescope_base::{Column, Table};

use super::{Judgement, REQUIRED, Validity};
use crate::StudyError;

impl Validity {
    /// One row for each promise of each instrument.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, StudyError> {
        let text = |of: &dyn Fn(&Judgement) -> &'static str| {
            self.judgements.iter().map(|judgement| of(judgement).to_owned()).collect::<Vec<String>>()
        };
        let real = |of: &dyn Fn(&Judgement) -> f64| self.judgements.iter().map(of).collect::<Vec<f64>>();
        let reading = |j: &Judgement| format!("{}: {}", j.about.name, j.promise.reading.says);
        let mut columns = vec![
            Column::key(
                "reading",
                "what is read from which instrument",
                self.judgements.iter().map(reading).collect(),
            ),
            Column::key("instrument", "name at the command line", text(&|j| j.about.name)),
            Column::key("planted", "property of model and text", text(&|j| j.promise.planted.name())),
            Column::text(
                "promised",
                "what the instrument promises there",
                text(&|j| if j.promise.finds { "found" } else { "silent" }),
            ),
            Column::estimate("rate", "share of worlds", "the reading holds", real(&|j| j.rate.share)),
        ];
        let interval = "exact 95 % interval (Clopper and Pearson)";
        let (low, high) = (real(&|j| j.rate.low), real(&|j| j.rate.high));
        columns.extend(Column::interval("rate", "share of worlds", interval, low, high));
        let worlds = self.judgements.iter().map(|judgement| judgement.rate.trials as i64).collect();
        columns.push(Column::observations("rate", "worlds", worlds));
        columns.push(Column::p_value(
            "rate",
            "where silence is promised: so many by chance alone, corrected by Holm's procedure",
            real(&|j| j.by_chance),
        ));
        columns.push(Column::text("verdict", "whether the promise is kept", text(&Judgement::verdict)));
        let method = format!(
            "Each world has weights, text and draws of its own. What must be found is `missed` below {REQUIRED}; where silence is promised, \
             `false alarm` says that chance at a level of 0.05 does not explain the count. Does not show what happens where the property is weaker."
        );
        Ok(Table::new(
            "validity",
            "What every instrument finds where it is known what is there",
            method,
            columns,
        )?)
    }
}
