//! Other weights in the place of the model's own, for as long as somebody asks what they would do.

use std::collections::BTreeMap;
use std::sync::Arc;

use moescope_base::{SubjectError, WeightMatrix};

use crate::model::Model;
use crate::subject::ModelSubject;

/// A parameter, and the expert whose part of it is meant.
pub(crate) type Part = (usize, Option<usize>);

impl ModelSubject {
    /// Puts numbers in the place of a part. Of weights in memory the old ones are kept beside; of those in files the new ones are, and
    /// every read meets them.
    pub(crate) fn put(&mut self, part: Part, with: &[f32], old: WeightMatrix) -> Result<(), SubjectError> {
        match self.model().is_streamed() {
            true => {
                own_stock(self.model_mut())?.insert(part, with.to_vec());
            }
            false => {
                write(self.model_mut(), part, with);
                self.replaced.entry(part).or_insert_with(|| old.data().to_vec());
            }
        }
        Ok(())
    }

    /// Puts all parts back.
    pub(crate) fn put_back(&mut self) -> Result<(), SubjectError> {
        if self.model().is_streamed() {
            own_stock(self.model_mut())?.clear();
        }
        for (part, old) in std::mem::take(&mut self.replaced) {
            write(self.model_mut(), part, &old);
        }
        Ok(())
    }
}

/// Numbers in memory, exchanged.
fn write(model: &mut Model, (place, expert): Part, with: &[f32]) {
    let first = expert.unwrap_or(0) * with.len();
    let all = model.parameters_mut()[place].tensor.data_mut();
    all[first..first + with.len()].copy_from_slice(with);
}

/// What stands in front of the files, if nobody else reads them.
fn own_stock(model: &mut Model) -> Result<&mut BTreeMap<Part, Vec<f32>>, SubjectError> {
    let refused = || {
        SubjectError::Input {
        reason: "the files of the weights are shared with another copy of the model, so they cannot be replaced; open it anew".into(),
    }
    };
    model.stock_mut().and_then(Arc::get_mut).map(|stock| &mut stock.replaced).ok_or_else(refused)
}
