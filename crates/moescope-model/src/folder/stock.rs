//! Weights that stay in their files until a product needs them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use moescope_engine::Tensor;

use super::gather::{gather, gather_experts, gather_outputs, scratch};
use super::sources::Source;
use super::tensors::Tensors;
use crate::ModelError;
use crate::parameters::{Role, Specification};
use crate::replaced_weights::Part;

/// The parameters of a model in their files, to be read whole or in parts.
///
/// A place is that of the parameter in the layout; the specification must be the one at this place.
pub(crate) struct Stock {
    pub(crate) tensors: Tensors,
    /// By place.
    pub(crate) sources: Vec<Source>,
    /// Scales of norms are stored less one.
    pub(crate) norms_less_one: bool,
    /// Bytes that weights may take at a time, and what experts make of them on the way.
    pub(crate) room: u64,
    /// Numbers that stand in the place of those in the files.
    pub(crate) replaced: BTreeMap<Part, Vec<f32>>,
}

impl fmt::Debug for Stock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.tensors.folder();
        formatter
            .debug_struct("Stock")
            .field("place", &place)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

impl Stock {
    /// All numbers of a parameter.
    pub(crate) fn read(&self, place: usize, wanted: &Specification) -> Result<Tensor, ModelError> {
        if let Some(data) = self.replaced.get(&(place, None)) {
            return Ok(Tensor::new(wanted.shape.clone(), data.clone())?);
        }
        let mut tensor = gather(&self.tensors, &self.sources[place], &wanted.shape)?;
        if wanted.role == Role::Norm && self.norms_less_one {
            tensor.data_mut().iter_mut().for_each(|scale| *scale += 1.0);
        }
        Ok(tensor)
    }

    /// Some rows of a matrix `[output, input]`.
    pub(crate) fn outputs(
        &self,
        place: usize,
        wanted: &Specification,
        rows: Range<usize>,
    ) -> Result<Tensor, ModelError> {
        if let Some(data) = self.replaced.get(&(place, None)) {
            let columns = wanted.shape[1];
            let part = data[rows.start * columns..rows.end * columns].to_vec();
            return Ok(Tensor::new([rows.len(), columns], part)?);
        }
        gather_outputs(&self.tensors, &self.sources[place], &wanted.shape, rows)
    }

    /// Some experts of a parameter `[expert, ...]`; those that are not asked for by `needed` stay zeros.
    pub(crate) fn experts(
        &self,
        place: usize,
        wanted: &Specification,
        experts: Range<usize>,
        needed: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Tensor, ModelError> {
        if let Some(data) = self.replaced.get(&(place, None)) {
            let each = data.len() / wanted.shape[0];
            let mut shape = wanted.shape.clone();
            shape[0] = experts.len();
            return Ok(Tensor::new(shape, data[experts.start * each..experts.end * each].to_vec())?);
        }
        let first = experts.start;
        let stays = |expert: usize| needed(expert) && !self.replaced.contains_key(&(place, Some(expert)));
        let mut all =
            gather_experts(&self.tensors, &self.sources[place], &wanted.shape, experts.clone(), &stays)?;
        for expert in experts.filter(|expert| needed(*expert)) {
            if let Some(data) = self.replaced.get(&(place, Some(expert))) {
                all.data_mut()[(expert - first) * data.len()..][..data.len()].copy_from_slice(data);
            }
        }
        Ok(all)
    }

    /// The rows of a table that these ids name, each once, `[distinct, model]`, and the place of each id among them: a look-up
    /// needs no more of the table.
    pub(crate) fn rows_named(
        &self,
        place: usize,
        wanted: &Specification,
        ids: &[u32],
    ) -> Result<(Tensor, Vec<u32>), ModelError> {
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let places = ids.iter().map(|id| distinct.partition_point(|other| other < id) as u32).collect();
        let width = wanted.shape[1];
        let mut rows = vec![0.0; distinct.len() * width];
        match &self.sources[place] {
            Source::Whole(name) if self.tensors.is_plain(name) => {
                for (id, row) in distinct.iter().zip(rows.chunks_exact_mut(width)) {
                    self.tensors.read_rows(name, *id as usize..*id as usize + 1, row)?;
                }
            }
            _ => {
                let all = self.read(place, wanted)?;
                for (id, row) in distinct.iter().zip(rows.chunks_exact_mut(width)) {
                    row.copy_from_slice(&all.data()[*id as usize * width..][..width]);
                }
            }
        }
        Ok((Tensor::new([distinct.len(), width], rows)?, places))
    }

    /// Bytes that reading any part of a parameter holds besides the result.
    pub(crate) fn scratch(&self, place: usize, wanted: &Specification) -> u64 {
        scratch_bytes(&self.tensors, &self.sources[place], wanted)
    }
}

/// As [`Stock::scratch`].
pub(crate) fn scratch_bytes(tensors: &Tensors, source: &Source, wanted: &Specification) -> u64 {
    4 * scratch(tensors, source, &wanted.shape)
}
