//! Rows of which few entries are positive and all others zero, and the products that visit those few alone.
//!
//! A sparse dictionary keeps some tens of thousands of features, of which a row has a few dozen. Its products with directions, and all gradients of
//! these, then cost a few dozen rows instead of tens of thousands.

use rayon::prelude::*;

use super::chunks::{each, rows_per_piece};
use super::vector::{add_scaled, dot, vectorised};
use crate::Tensor;

/// Rows that are searched by one task.
const SEARCHED: usize = 64;
/// Up to so many entries of a row are kept in order while it is searched; of more, all candidates are looked at together.
const IN_ORDER: usize = 32;
/// Entries that are held against the least of these together.
const STRETCH: usize = 16;

/// Positive entries of rows, each with its column: by rows, and by columns within a row.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    width: usize,
    /// Where the entries of each row begin, and at last where they end: `[row + 1]`.
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// All positive entries of `x[row, column]`.
    pub fn positive(x: &Tensor) -> SparseRows {
        SparseRows::chosen(x, |row, kept| {
            let positive = row.iter().enumerate().filter(|(_, value)| **value > 0.0);
            kept.extend(positive.map(|(column, value)| (*value, column as u32)));
        })
    }

    /// The `k` largest of the positive entries of each row of `x[row, column]`, or as many as there are; of equals the lower column stays.
    pub fn strongest(x: &Tensor, k: usize) -> SparseRows {
        SparseRows::chosen(x, |row, kept| match k <= IN_ORDER {
            true => strongest_of(row, k, kept),
            false => strongest((0..row.len() as u32).zip(row.iter().copied()), k, kept),
        })
    }

    /// The same among some columns alone, which are told in ascending order.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn strongest_among(x: &Tensor, columns: &[u32], k: usize) -> SparseRows {
        SparseRows::chosen(x, |row, kept| {
            strongest(columns.iter().map(|column| (*column, row[*column as usize])), k, kept);
        })
    }

    fn chosen(x: &Tensor, choose: impl Fn(&[f32], &mut Vec<(f32, u32)>) + Sync) -> SparseRows {
        let width = x.columns();
        let search = |rows: &[f32]| {
            let (mut counts, mut columns, mut values) = (Vec::new(), Vec::new(), Vec::new());
            let mut kept = Vec::new();
            for row in rows.chunks_exact(width) {
                kept.clear();
                choose(row, &mut kept);
                kept.sort_unstable_by_key(|(_, column)| *column);
                counts.push(kept.len());
                columns.extend(kept.iter().map(|(_, column)| *column));
                values.extend(kept.iter().map(|(value, _)| *value));
            }
            (counts, columns, values)
        };
        let found: Vec<_> = x.data().par_chunks(SEARCHED * width.max(1)).map(search).collect();
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for (counts, some_columns, some_values) in found {
            for count in counts {
                starts.push(starts[starts.len() - 1] + count);
            }
            columns.extend(some_columns);
            values.extend(some_values);
        }
        SparseRows { width, starts, columns, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The column of every entry.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The value of every entry, above 0.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `Σ value · table[column]` for each row: `[row, width of the table]`.
    ///
    /// # Panics
    /// If the table has not as many rows as these have columns.
    pub fn products(&self, table: &Tensor) -> Tensor {
        assert_eq!(table.rows(), self.width, "a row of the table for each column");
        let width = table.columns();
        let mut out = Tensor::zeros([self.rows(), width]);
        let width = width.max(1);
        each(out.data_mut(), rows_per_piece(width) * width, |start, out| {
            for (row, out) in (start / width..).zip(out.chunks_exact_mut(width)) {
                let entries = self.starts[row]..self.starts[row + 1];
                add_rows(&self.columns[entries.clone()], &self.values[entries], table.data(), out);
            }
        });
        out
    }

    /// `table[column] · dense[row]` for each entry: where `dense` is the gradient of the [products](Self::products), the gradient of its value.
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub fn along(&self, table: &Tensor, dense: &Tensor) -> Vec<f32> {
        assert_eq!(table.rows(), self.width, "a row of the table for each column");
        assert_eq!([dense.rows(), dense.columns()], [self.rows(), table.columns()], "a vector for each row");
        let width = dense.columns();
        let mut out = vec![0.0; self.values.len()];
        let mut tasks = Vec::new();
        let mut rest = &mut out[..];
        for first in (0..self.rows()).step_by(SEARCHED) {
            let rows = first..(first + SEARCHED).min(self.rows());
            let (here, after) = rest.split_at_mut(self.starts[rows.end] - self.starts[rows.start]);
            rest = after;
            tasks.push((rows, here));
        }
        tasks.into_par_iter().for_each(|(rows, mut here)| {
            for row in rows {
                let entries = self.starts[row]..self.starts[row + 1];
                let (of_row, after) = here.split_at_mut(entries.len());
                here = after;
                along(&self.columns[entries], table.data(), &dense.data()[row * width..][..width], of_row);
            }
        });
        out
    }

    /// The entries in the order of their columns.
    pub fn by_column(&self) -> ByColumn {
        let mut starts = vec![0; self.width + 1];
        self.columns.iter().for_each(|column| starts[*column as usize + 1] += 1);
        for column in 0..self.width {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let (mut rows, mut entries) = (vec![0; self.values.len()], vec![0; self.values.len()]);
        for row in 0..self.rows() {
            for entry in self.starts[row]..self.starts[row + 1] {
                let place = &mut next[self.columns[entry] as usize];
                (rows[*place], entries[*place]) = (row as u32, entry);
                *place += 1;
            }
        }
        ByColumn { starts, rows, entries }
    }
}

/// Puts the `k` largest positive values with their columns into `kept`; of equals, those that are told first.
fn strongest(row: impl Iterator<Item = (u32, f32)>, k: usize, kept: &mut Vec<(f32, u32)>) {
    kept.extend(row.filter(|(_, value)| *value > 0.0).map(|(column, value)| (value, column)));
    if kept.len() > k {
        kept.select_nth_unstable_by(k, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        kept.truncate(k);
    }
}

/// The same of a whole row for a small `k`: the largest so far are kept in order, and most stretches of the row hold none that exceeds the least of them.
fn strongest_of(row: &[f32], k: usize, kept: &mut Vec<(f32, u32)>) {
    if k == 0 {
        return;
    }
    // What a value must exceed; equal ones come too late.
    let mut least = 0.0;
    for (stretch, values) in row.chunks(STRETCH).enumerate() {
        if !values.iter().fold(false, |any, value| any | (*value > least)) {
            continue;
        }
        for (place, &value) in values.iter().enumerate() {
            if value > least {
                kept.truncate(k - 1);
                let at = kept.partition_point(|other| other.0 >= value);
                kept.insert(at, (value, (stretch * STRETCH + place) as u32));
                least = if kept.len() == k { kept[k - 1].0 } else { 0.0 };
            }
        }
    }
}

/// Entries of [`SparseRows`] in the order of their columns, and by rows within a column.
#[derive(Clone, Debug, PartialEq)]
pub struct ByColumn {
    /// `[column + 1]`.
    starts: Vec<usize>,
    rows: Vec<u32>,
    /// Places in the order by rows.
    entries: Vec<usize>,
}

impl ByColumn {
    /// Adds `Σ number · dense[row]` over the entries of each column to `out[column]`; a number for each entry, by rows.
    ///
    /// With the values as numbers and the gradient of the products as `dense` this is the gradient of the table.
    ///
    /// # Panics
    /// If the shapes do not belong together.
    pub fn add_products(&self, numbers: &[f32], dense: &Tensor, out: &mut Tensor) {
        assert_eq!(numbers.len(), self.entries.len(), "a number for each entry");
        assert_eq!(
            [self.starts.len() - 1, dense.columns()],
            [out.rows(), out.columns()],
            "a row for each column"
        );
        let width = dense.columns().max(1);
        let sorted: Vec<f32> = self.entries.iter().map(|entry| numbers[*entry]).collect();
        let piece = rows_per_piece(width).min(SEARCHED) * width;
        each(out.data_mut(), piece, |start, out| {
            for (column, out) in (start / width..).zip(out.chunks_exact_mut(width)) {
                let here = self.starts[column]..self.starts[column + 1];
                add_rows(&self.rows[here.clone()], &sorted[here], dense.data(), out);
            }
        });
    }

    /// Adds the sum of the numbers of each column to `out[column]`.
    ///
    /// # Panics
    /// As [`add_products`](Self::add_products).
    pub fn add_sums(&self, numbers: &[f32], out: &mut [f32]) {
        assert_eq!((numbers.len(), self.starts.len() - 1), (self.entries.len(), out.len()));
        for (out, bounds) in out.iter_mut().zip(self.starts.windows(2)) {
            *out += self.entries[bounds[0]..bounds[1]].iter().map(|entry| numbers[*entry]).sum::<f32>();
        }
    }
}

vectorised! {
    /// `out += Σ value · table[index]`, in the order of the entries. Rows of the table are as wide as `out`.
    fn add_rows<'a>(indices: &'a [u32], values: &'a [f32], table: &'a [f32], out: &'a mut [f32]) {
        let width = out.len();
        for (&index, &value) in indices.iter().zip(values) {
            add_scaled(out, &table[index as usize * width..][..width], value);
        }
    }
}

vectorised! {
    /// `out[entry] = table[index of the entry] · row`.
    fn along<'a>(indices: &'a [u32], table: &'a [f32], row: &'a [f32], out: &'a mut [f32]) {
        let width = row.len();
        for (&index, out) in indices.iter().zip(out) {
            *out = dot(&table[index as usize * width..][..width], row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use proptest::prelude::*;

    /// The rows with zeros.
    fn dense(x: &SparseRows, numbers: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; x.rows() * x.width];
        for row in 0..x.rows() {
            for entry in x.starts[row]..x.starts[row + 1] {
                out[row * x.width + x.columns[entry] as usize] = f64::from(numbers[entry]);
            }
        }
        out
    }

    /// Entries that stay, by the definition.
    fn reference(x: &Tensor, among: &[u32], k: usize) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        for (x, out) in x.data().chunks(x.columns()).zip(out.chunks_mut(x.columns())) {
            for &column in among {
                let own = x[column as usize];
                let before = |other: &&u32| {
                    let value = x[**other as usize];
                    value > own || (value == own && **other < column)
                };
                if own > 0.0 && among.iter().filter(before).count() < k {
                    out[column as usize] = f64::from(own);
                }
            }
        }
        out
    }

    /// Numbers of which many are equal.
    fn coarse(shape: &[usize], seed: u64) -> Tensor {
        let x = numbers(shape, seed);
        Tensor::new(shape, x.data().iter().map(|x| (3.0 * x).round()).collect()).unwrap()
    }

    proptest! {
        #[test]
        fn the_strongest_are_those_of_the_definition(rows in 1usize..90, width in 1usize..70, pick in 0.0f64..1.2, seed: u64) {
            let k = (pick * width as f64) as usize;
            let x = coarse(&[rows, width], seed);
            let all: Vec<u32> = (0..width as u32).collect();
            let found = SparseRows::strongest(&x, k);
            prop_assert_eq!(dense(&found, found.values()), reference(&x, &all, k));
            let some: Vec<u32> = all.iter().copied().filter(|column| column % 3 != 1).collect();
            let found = SparseRows::strongest_among(&x, &some, k);
            prop_assert_eq!(dense(&found, found.values()), reference(&x, &some, k));
            let positive = SparseRows::positive(&x);
            prop_assert_eq!(dense(&positive, positive.values()), reference(&x, &all, width));
            prop_assert!(positive.values().iter().all(|value| *value > 0.0));
        }

        #[test]
        fn products_are_those_of_the_rows_with_their_zeros(rows in 1usize..90, width in 1usize..20, outputs in 1usize..70, seed: u64) {
            let x = SparseRows::strongest(&numbers(&[rows, width], seed), 3);
            let (table, gradient) = (numbers(&[width, outputs], seed ^ 1), numbers(&[rows, outputs], seed ^ 2));
            let full = dense(&x, x.values());
            let near = |found: f32, wanted: f64| (f64::from(found) - wanted).abs() < 1e-4;
            let products = x.products(&table);
            let along = dense(&x, &x.along(&table, &gradient));
            let (mut slopes, mut sums) = (Tensor::full([width, outputs], 1.0), vec![2.0; width]);
            x.by_column().add_products(x.values(), &gradient, &mut slopes);
            x.by_column().add_sums(x.values(), &mut sums);
            for column in 0..width {
                let of_column = |row: usize| full[row * width + column];
                prop_assert!(near(sums[column], 2.0 + (0..rows).map(of_column).sum::<f64>()));
                for output in 0..outputs {
                    let slope: f64 = (0..rows).map(|row| of_column(row) * f64::from(gradient.data()[row * outputs + output])).sum();
                    prop_assert!(near(slopes.data()[column * outputs + output], 1.0 + slope));
                }
            }
            for row in 0..rows {
                for output in 0..outputs {
                    let weight = |column: usize| f64::from(table.data()[column * outputs + output]);
                    let product: f64 = (0..width).map(|column| full[row * width + column] * weight(column)).sum();
                    prop_assert!(near(products.data()[row * outputs + output], product));
                }
                for column in (0..width).filter(|column| full[row * width + column] != 0.0) {
                    let product = |output: usize| f64::from(table.data()[column * outputs + output]) * f64::from(gradient.data()[row * outputs + output]);
                    prop_assert!((along[row * width + column] - (0..outputs).map(product).sum::<f64>()).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn not_a_number_is_never_an_entry_and_empty_rows_are_rows() {
        let x =
            Tensor::new([3, 3], vec![f32::NAN, 1.0, -1.0, -1.0, 0.0, f32::NAN, 2.0, f32::NAN, 3.0]).unwrap();
        for found in [SparseRows::positive(&x), SparseRows::strongest(&x, 2), SparseRows::strongest(&x, 40)] {
            assert_eq!(
                (found.starts.as_slice(), found.columns()),
                ([0, 1, 1, 3].as_slice(), [1, 0, 2].as_slice())
            );
            assert_eq!(found.products(&Tensor::full([3, 2], 1.0)).data(), [1.0, 1.0, 0.0, 0.0, 5.0, 5.0]);
        }
        assert!(SparseRows::strongest(&x, 0).values().is_empty());
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (x, table) = (numbers(&[500, 300], 1), numbers(&[300, 40], 2));
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let rows = SparseRows::strongest(&x, 9);
                let products = rows.products(&table);
                let mut slopes = Tensor::zeros([300, 40]);
                rows.by_column().add_products(&rows.along(&table, &products), &products, &mut slopes);
                (rows, products, slopes)
            })
        };
        assert_eq!(with(1), with(3));
    }
}
