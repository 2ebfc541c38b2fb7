//! The rows of single experts with the smallest lots so far.

use std::collections::BTreeMap;
use std::path::Path;

use moescope_base::{HookPoint, Value, ValueData};
use moescope_host::write_tensors;

use super::priority::{Lots, Priority};
use crate::tensor_file::Entry;
use crate::{TensorReader, TraceError};

/// Rows of one site of one expert, at most so many.
///
/// Offering a row twice keeps it once, so windows that are run again after an interruption change nothing.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reservoir {
    width: usize,
    rows: BTreeMap<Priority, (u32, Vec<f32>)>,
}

impl Reservoir {
    /// Whether a row with this lot would be kept now.
    fn wants(&self, lot: &Priority, capacity: usize) -> bool {
        capacity > self.rows.len() || self.rows.last_key_value().is_some_and(|(largest, _)| lot < largest)
    }

    fn put(&mut self, lot: Priority, id: u32, row: &[f32], capacity: usize) {
        self.rows.insert(lot, (id, row.to_vec()));
        if self.rows.len() > capacity {
            self.rows.pop_last();
        }
    }
}

/// The samples of all single experts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExpertSamples {
    capacity: usize,
    sites: BTreeMap<HookPoint, Reservoir>,
}

/// Where a row of a pass comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) lot: Priority,
    pub(super) id: u32,
}

impl ExpertSamples {
    pub(super) fn new(capacity: usize, points: impl Iterator<Item = HookPoint>) -> ExpertSamples {
        ExpertSamples { capacity, sites: points.map(|point| (point, Reservoir::default())).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Offers all rows of a pass; `origins[token]`.
    pub(super) fn offer(&mut self, values: &BTreeMap<HookPoint, Value>, origins: &[Origin]) {
        for (point, site) in &mut self.sites {
            let Some((value, numbers)) = values.get(point).and_then(|v| Some((v, v.real()?))) else {
                continue;
            };
            site.width = value.columns();
            let rows = numbers.chunks_exact(site.width.max(1));
            for (token, row) in value.rows().unwrap_or(&[]).iter().zip(rows) {
                let Origin { lot, id } = origins[*token as usize];
                if site.wants(&lot, self.capacity) {
                    site.put(lot, id, row, self.capacity);
                }
            }
        }
    }

    /// Writes all rows in the order of the text, and after how many windows they stand if the work goes on.
    pub(super) fn write(&self, path: &Path, windows: Option<usize>) -> Result<(), TraceError> {
        let mut tensors = Vec::new();
        for (point, site) in &self.sites {
            let mut rows: Vec<_> = site.rows.iter().collect();
            rows.sort_unstable_by_key(|(lot, _)| (lot.document, lot.position));
            let data = rows.iter().flat_map(|(_, (_, row))| row).copied().collect();
            let shape = vec![rows.len(), site.width];
            tensors.push((point.to_string(), Entry::of(shape, ValueData::Real(data))));
            let column = |number: fn(&Priority, u32) -> u32| {
                let numbers = rows.iter().map(|(lot, (id, _))| i64::from(number(lot, *id))).collect();
                Entry::of(vec![rows.len()], ValueData::Integer(numbers))
            };
            tensors.push((format!("{point}.document"), column(|lot, _| lot.document)));
            tensors.push((format!("{point}.position"), column(|lot, _| lot.position)));
            tensors.push((format!("{point}.token_id"), column(|_, id| id)));
        }
        if let Some(windows) = windows {
            tensors.push(("windows".into(), Entry::of(vec![1], ValueData::Integer(vec![windows as i64]))));
        }
        Ok(write_tensors(path, tensors, None)?)
    }

    /// Takes up what [`write`](Self::write) left, and returns after how many windows it stands.
    pub(super) fn read(&mut self, path: &Path, lots: &Lots, documents: usize) -> Result<usize, TraceError> {
        let reader = TensorReader::open(path)?;
        let damaged = |name: &str| {
            reader.complain(name, "not what was saved", "the state of this recording; start again")
        };
        for (point, site) in &mut self.sites {
            let name = point.to_string();
            let (shape, numbers) = reader.reals(&name)?;
            let column = |what: &str| -> Result<Vec<u32>, TraceError> {
                let name = format!("{name}.{what}");
                let numbers = reader.integers(&name)?.1;
                let narrow = numbers.iter().map(|number| u32::try_from(*number).ok());
                narrow.collect::<Option<Vec<u32>>>().ok_or_else(|| damaged(&name))
            };
            let [of, at, ids] = [column("document")?, column("position")?, column("token_id")?];
            let known = of.iter().all(|document| (*document as usize) < documents);
            let [rows, width] = shape[..] else { return Err(damaged(&name)) };
            if !known || [of.len(), at.len(), ids.len()] != [rows; 3] || rows > self.capacity {
                return Err(damaged(&name));
            }
            site.width = width;
            let rows = numbers.chunks_exact(width.max(1)).zip(of.iter().zip(&at).zip(&ids));
            site.rows = rows.map(|(row, ((of, at), id))| (lots.of(*of, *at), (*id, row.to_vec()))).collect();
        }
        let windows = reader.integers("windows")?.1;
        let windows = windows.first().and_then(|windows| usize::try_from(*windows).ok());
        windows.ok_or_else(|| damaged("windows"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::DocumentLabel;
    use super::*;
    use moescope_base::Site;

    const CAPACITY: usize = 5;

    /// Tokens of this expert among 40 of one document: every other one, and the last ten.
    fn rows() -> Vec<u32> {
        (0..40).filter(|token| token % 2 == 0 || *token >= 30).collect()
    }

    fn point() -> HookPoint {
        HookPoint::expert(Site::ExpertPost, 0, 3)
    }

    /// Offers the rows of the tokens from `first` to `last`, as one pass.
    fn offer(samples: &mut ExpertSamples, lots: &Lots, first: u32, last: u32) {
        let here: Vec<u32> =
            rows().into_iter().filter(|t| (first..last).contains(t)).map(|t| t - first).collect();
        let numbers = here.iter().map(|token| (first + token) as f32).collect();
        let value = Value::new(point(), vec![here.len(), 1], ValueData::Real(numbers), Some(here)).unwrap();
        let origins: Vec<Origin> = (first..last).map(|t| Origin { lot: lots.of(0, t), id: t }).collect();
        samples.offer(&BTreeMap::from([(point(), value)]), &origins);
    }

    fn empty() -> ExpertSamples {
        ExpertSamples::new(CAPACITY, [point()].into_iter())
    }

    fn lots(seed: u64) -> Lots {
        Lots::new(seed, &[DocumentLabel { domain: "d".into(), name: "a".into() }])
    }

    #[test]
    fn every_row_of_an_expert_is_kept_equally_often_over_seeds() {
        let (rows, seeds) = (rows(), 3000);
        let mut counts = [0_u32; 40];
        for seed in 0..seeds {
            let (lots, mut samples) = (lots(seed), empty());
            offer(&mut samples, &lots, 0, 40);
            samples.sites[&point()].rows.keys().for_each(|lot| counts[lot.position as usize] += 1);
        }
        let wanted = (seeds as usize * CAPACITY) as f64 / rows.len() as f64;
        let square: f64 =
            rows.iter().map(|t| (f64::from(counts[*t as usize]) - wanted).powi(2) / wanted).sum();
        // 24 degrees, times 5/6 for the draw without replacement: above 51.2 * 5/6 but once in a thousand.
        assert!(rows.len() == 25 && square < 51.2 * 5.0 / 6.0, "{square}");
        assert_eq!(counts.iter().filter(|count| **count > 0).count(), 25, "no other token");
    }

    #[test]
    fn passes_repetitions_and_the_disk_change_nothing() {
        let lots = lots(9);
        let mut one = empty();
        offer(&mut one, &lots, 0, 40);
        assert_eq!(one.sites[&point()].rows.len(), CAPACITY);
        for (first, last) in [(20, 40), (0, 20)] {
            let mut parts = empty();
            offer(&mut parts, &lots, first, last);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            parts.write(&path, Some(7)).unwrap();
            let mut again = empty();
            assert_eq!(again.read(&path, &lots, 1).unwrap(), 7);
            assert_eq!(again, parts);
            offer(&mut again, &lots, first, last);
            offer(&mut again, &lots, 0, 40);
            assert_eq!(again, one);
            assert!(empty().read(&path, &lots, 0).is_err(), "documents that are not there");
        }
    }
}
