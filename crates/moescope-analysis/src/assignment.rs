//! Linear assignment: the partner of each row with the largest sum of gains.

/// The column of each row, all different, such that the sum of `gain[row, column]` is largest: `[row]`.
///
/// - **Shape:** `gain` is row-major with `columns` columns, at least as many as rows; all entries are finite.
/// - **Source:** shortest augmenting paths with potentials, Kuhn 1955 and Jonker and Volgenant 1987; O(rows² · columns).
pub(crate) fn assignment(gain: &[f64], columns: usize) -> Vec<usize> {
    let rows = gain.len() / columns;
    assert!(rows <= columns, "every row needs a column of its own");
    let mut search = Search {
        gain,
        columns,
        of_row: vec![0.0; rows],
        of_column: vec![0.0; columns],
        owner: vec![None; columns],
    };
    (0..rows).for_each(|row| search.place(row));
    let mut partner = vec![0; rows];
    for (column, owner) in search.owner.iter().enumerate() {
        if let Some(row) = owner {
            partner[*row] = column;
        }
    }
    partner
}

/// A best assignment of the rows so far, with potentials that prove it: costs less potentials are nowhere negative.
struct Search<'a> {
    gain: &'a [f64],
    columns: usize,
    of_row: Vec<f64>,
    of_column: Vec<f64>,
    owner: Vec<Option<usize>>, // by column
}

impl Search<'_> {
    /// Adds a row along the cheapest alternating path to a free column.
    fn place(&mut self, added: usize) {
        let mut distance = vec![f64::INFINITY; self.columns];
        let mut before: Vec<Option<usize>> = vec![None; self.columns];
        let mut done = vec![false; self.columns];
        let (mut row, mut from) = (added, None);
        let last = loop {
            let (mut nearest, mut step) = (0, f64::INFINITY);
            for column in (0..self.columns).filter(|column| !done[*column]) {
                let cost = -self.gain[row * self.columns + column];
                let reduced = cost - self.of_row[row] - self.of_column[column];
                if reduced < distance[column] {
                    (distance[column], before[column]) = (reduced, from);
                }
                if distance[column] < step {
                    (nearest, step) = (column, distance[column]);
                }
            }
            self.shift(added, step, &mut distance, &done);
            done[nearest] = true;
            match self.owner[nearest] {
                Some(owner) => (row, from) = (owner, Some(nearest)),
                None => break nearest,
            }
        };
        let mut column = last;
        while let Some(previous) = before[column] {
            self.owner[column] = self.owner[previous];
            column = previous;
        }
        self.owner[column] = Some(added);
    }

    /// Moves the potentials of what the path has reached, so that the next column is at distance 0.
    fn shift(&mut self, added: usize, step: f64, distance: &mut [f64], done: &[bool]) {
        self.of_row[added] += step;
        for column in 0..self.columns {
            if done[column] {
                self.of_column[column] -= step;
                if let Some(row) = self.owner[column] {
                    self.of_row[row] += step;
                }
            } else {
                distance[column] -= step;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The largest sum over all ways to give rows from `row` on a column that is not taken.
    fn brute(gain: &[f64], columns: usize, row: usize, taken: &mut Vec<usize>) -> f64 {
        if row * columns == gain.len() {
            return 0.0;
        }
        let mut best = f64::NEG_INFINITY;
        for column in 0..columns {
            if !taken.contains(&column) {
                taken.push(column);
                best = best.max(gain[row * columns + column] + brute(gain, columns, row + 1, taken));
                taken.pop();
            }
        }
        best
    }

    #[test]
    fn a_hand_worked_table_needs_the_second_best() {
        // The first row would take column 0; the second loses more without it.
        assert_eq!(assignment(&[5.0, 4.0, 0.0, 9.0, 1.0, 0.0], 3), [1, 0]);
        assert!(assignment(&[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn no_other_assignment_gains_more(
            rows in 1usize..6,
            more in 0usize..3,
            numbers in prop::collection::vec(-9i32..9, 40),
        ) {
            let columns = rows + more;
            let gain: Vec<f64> = numbers[..rows * columns].iter().map(|x| f64::from(*x)).collect();
            let found = assignment(&gain, columns);
            let mut distinct = found.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), rows);
            let sum: f64 = found.iter().enumerate().map(|(row, column)| gain[row * columns + column]).sum();
            prop_assert!((sum - brute(&gain, columns, 0, &mut Vec::new())).abs() < 1e-9);
        }
    }
}
