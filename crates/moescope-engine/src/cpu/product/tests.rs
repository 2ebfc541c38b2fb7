use proptest::prelude::*;

use super::machine::{Machine, TOLD};
use super::*;

fn numbers(length: usize, seed: usize) -> Vec<f32> {
    (0..length).map(|i| (((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5) - 1.0).collect()
}

/// Some of `rows` names, in no order, with repeats.
fn names(count: usize, rows: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 31 + seed * 17 + i * i) % rows) as u32).collect()
}

/// `[row, inner]` times `[inner, column]` in f64.
fn slow(left: impl Fn(usize, usize) -> f32, right: impl Fn(usize, usize) -> f32, sizes: Sizes) -> Vec<f64> {
    let entry = |row: usize, column: usize| -> f64 {
        (0..sizes.inner).map(|i| f64::from(left(row, i)) * f64::from(right(i, column))).sum()
    };
    (0..sizes.rows * sizes.columns).map(|i| entry(i / sizes.columns, i % sizes.columns)).collect()
}

/// The result with the kernels of every machine that this one can be, gemm last. Those of ours are the same to the bit.
fn each(work: impl Fn() -> Vec<f32>) -> Vec<Vec<f32>> {
    let found: Vec<Vec<f32>> = machines().into_iter().map(|machine| told(machine, &work)).collect();
    let own = &found[..found.len() - 1];
    assert!(own.windows(2).all(|pair| bits(&pair[0]) == bits(&pair[1])), "wide and narrow vectors differ");
    found
}

/// The machines that this one can be.
fn machines() -> Vec<Machine> {
    let mut here = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (can, machine) in [(avx512::available(), Machine::Avx512), (avx2::available(), Machine::Avx2)] {
        here.extend(can.then_some(machine));
    }
    here.push(Machine::Other);
    here
}

/// The result with the kernels of one machine.
fn told<T>(machine: Machine, work: impl FnOnce() -> T) -> T {
    TOLD.set(Some(machine));
    let result = work();
    TOLD.set(None);
    result
}

fn close(found: &[f32], wanted: &[f64], inner: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), wanted.len());
    let most = 1e-5 * (1.0 + inner as f64);
    for (index, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        prop_assert!((f64::from(found) - wanted).abs() < most, "entry {}: {} for {}", index, found, wanted);
    }
    Ok(())
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Sizes on both sides of every cut: tiles, panels, steps, blocks.
fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..30, 90usize..110, 188usize..196]
}

fn inner() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..40, 250usize..262, 505usize..520]
}

fn columns() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..40, 60usize..70, 510usize..516]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_product_is_a_product(
        rows in rows(), inner in inner(), columns in columns(), turn_left: bool, turn_right: bool, add: bool,
    ) {
        let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
        let left_at = |row: usize, i: usize| if turn_left { left[i * rows + row] } else { left[row * inner + i] };
        let right_at = |i: usize, c: usize| if turn_right { right[c * inner + i] } else { right[i * columns + c] };
        let view = |data, rows, columns, turn: bool| {
            if turn { Matrix::new(data, columns, rows).transposed() } else { Matrix::new(data, rows, columns) }
        };
        let mut wanted = slow(left_at, right_at, Sizes { rows, columns, inner });
        wanted.iter_mut().for_each(|x| *x = 2.0 * *x + if add { 1.0 } else { 0.0 });
        for found in each(|| {
            let mut out = vec![if add { 1.0 } else { f32::NAN }; rows * columns];
            let (left, right) = (view(&left, rows, inner, turn_left), view(&right, inner, columns, turn_right));
            product(MatrixMut::new(&mut out, rows, columns), left, right, 2.0, add);
            out
        }) {
            close(&found, &wanted, inner)?;
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company_and_a_column_too_in_ours(
        columns in columns(), inner in inner(), rows in 1usize..90, first in 0usize..40, swap: bool, add: bool,
    ) {
        let (left, right) = (numbers(90 * inner, 1), numbers(inner * columns, 2));
        let right = match swap {
            false => Matrix::new(&right, inner, columns),
            true => Matrix::new(&right, columns, inner).transposed(),
        };
        let results = |rows: usize, first: usize| {
            let mut out = numbers(rows * columns, 3);
            let left = Matrix::new(&left[..rows * inner], rows, inner);
            let mut all = MatrixMut::new(&mut out, rows, columns);
            product(all.window(0..rows, first..columns), left, right.window(0..inner, first..columns), 0.5, add);
            out
        };
        for [all, some] in each(|| [results(90, 0)[..rows * columns].to_vec(), results(rows, 0)].concat())
            .into_iter()
            .map(|pair| [pair[..rows * columns].to_vec(), pair[rows * columns..].to_vec()])
        {
            prop_assert_eq!(bits(&all), bits(&some));
        }
        for machine in machines().into_iter().filter(|machine| first < columns && *machine != Machine::Other) {
            let (all, some) = told(machine, || (results(rows, 0), results(rows, first)));
            for row in 0..rows {
                let place = row * columns + first..(row + 1) * columns;
                prop_assert_eq!(bits(&all[place.clone()]), bits(&some[place]));
            }
        }
    }

    #[test]
    fn a_prepared_side_gives_the_bits_of_one_that_is_not(
        rows in rows(), inner in inner(), columns in columns(), some in 1usize..600, turn_left: bool, turn: bool, add: bool,
    ) {
        let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
        let view = |data, rows, columns, turn: bool| {
            if turn { Matrix::new(data, columns, rows).transposed() } else { Matrix::new(data, rows, columns) }
        };
        let (left, right) = (view(&left, rows, inner, turn_left), view(&right, inner, columns, turn));
        let some = some.min(columns);
        for pair in each(|| {
            let prepared = Prepared::new(right);
            let mut outs = [(); 4].map(|()| numbers(rows * columns, 3));
            let [whole, plain, first, plain_first] = outs.each_mut().map(|out| MatrixMut::new(out, rows, columns));
            prepared.product(whole, left, add, Some(left));
            product(plain, left, right, 1.0, add);
            for (mut out, by) in [(first, Some(&prepared)), (plain_first, None)] {
                let out = out.window(0..rows, 0..some);
                match by {
                    Some(prepared) => prepared.product_of_first(out, left, 0.5),
                    None => product(out, left, right.window(0..inner, 0..some), 0.5, false),
                }
            }
            outs.concat()
        }) {
            let [whole, plain, first, plain_first] = [0, 1, 2, 3].map(|i| bits(&pair[i * rows * columns..][..rows * columns]));
            prop_assert_eq!(whole, plain);
            prop_assert_eq!(first, plain_first);
        }
    }

    #[test]
    fn named_rows_on_the_left_are_those_rows(
        stored in 1usize..20, count in rows(), inner in inner(), columns in columns(), turn: bool,
    ) {
        let (x, right) = (numbers(stored * inner, 1), numbers(inner * columns, 2));
        let names = names(count, stored, 3);
        let right_at = |i: usize, c: usize| if turn { right[c * inner + i] } else { right[i * columns + c] };
        let wanted = slow(
            |row, i| x[names[row] as usize * inner + i],
            right_at,
            Sizes { rows: count, columns, inner },
        );
        for found in each(|| {
            let mut out = vec![f32::NAN; count * columns];
            let right = match turn {
                false => Matrix::new(&right, inner, columns),
                true => Matrix::new(&right, columns, inner).transposed(),
            };
            let out_view = MatrixMut::new(&mut out, count, columns);
            let sides = RowProduct { left: Matrix::new(&x, stored, inner), names: Some(&names), right };
            product_of_rows(out_view, sides, Some(RowProduct { names: Some(&names[..1]), ..sides }));
            out
        }) {
            close(&found, &wanted, inner)?;
        }
    }

    #[test]
    fn a_product_is_added_to_named_rows_times_its_factors(
        stored in 1usize..20, first in 0usize..3, count in rows(), inner in inner(), columns in columns(), scaled: bool,
    ) {
        let (left, right) = (numbers(count * inner, 1), numbers(inner * columns, 2));
        let (names, factors) = (names(count, stored, 3), numbers(count, 4));
        let plain = slow(
            |row, i| left[row * inner + i],
            |i, c| right[c * inner + i],
            Sizes { rows: count, columns, inner },
        );
        let mut wanted = vec![1.0; stored * columns];
        for (place, entry) in plain.iter().enumerate() {
            let (row, column) = (place / columns, place % columns);
            let factor = if scaled { f64::from(factors[row]) } else { 1.0 };
            wanted[names[row] as usize * columns + column] += factor * entry;
        }
        let shifted: Vec<u32> = names.iter().map(|name| name + first as u32).collect();
        for found in each(|| {
            let mut out = vec![1.0; stored * columns];
            let names = Names { first, names: &shifted, factors: scaled.then_some(&factors[..]) };
            let right = Matrix::new(&right, columns, inner).transposed();
            let mut view = MatrixMut::new(&mut out, stored, columns);
            let sides = RowProduct { left: Matrix::new(&left, count, inner), names: None, right };
            add_product_to_rows(&mut view, names, sides, Some(sides));
            out
        }) {
            close(&found, &wanted, inner * count.div_ceil(stored))?;
        }
    }

    #[test]
    fn sums_over_named_rows_are_sums(
        stored in 1usize..20, inner in inner(), rows in rows(), columns in columns(), name_left: bool, name_right: bool,
        weighted: bool, add: bool,
    ) {
        let (left, right) = (numbers(stored.max(inner) * rows, 1), numbers(stored.max(inner) * columns, 2));
        let names = names(inner, stored, 3);
        let factors = numbers(inner, 9);
        let place = |named: bool, i: usize| if named { names[i] as usize } else { i };
        let mut wanted = slow(
            |row, i| left[place(name_left, i) * rows + row],
            |i, c| right[place(name_right, i) * columns + c] * if weighted { factors[i] } else { 1.0 },
            Sizes { rows, columns, inner },
        );
        wanted.iter_mut().for_each(|x| *x += if add { 1.0 } else { 0.0 });
        for found in each(|| {
            let mut out = vec![if add { 1.0 } else { f32::NAN }; rows * columns];
            fn side<'a>(data: &'a [f32], width: usize, inner: usize, names: Option<&'a [u32]>) -> SummedRows<'a> {
                let all = Matrix::new(data, data.len() / width, width);
                let matrix = if names.is_some() { all } else { all.window(0..inner, 0..width) };
                SummedRows { matrix, names, factors: None }
            }
            let left = side(&left, rows, inner, name_left.then_some(&names[..]));
            let right = side(&right, columns, inner, name_right.then_some(&names[..]));
            let right = SummedRows { factors: weighted.then_some(&factors[..]), ..right };
            sum_over_rows(MatrixMut::new(&mut out, rows, columns), (left, right), add, Some((left, right)));
            out
        }) {
            close(&found, &wanted, inner)?;
        }
    }
}

#[test]
fn a_row_that_is_added_has_the_bits_of_one_that_is_written() {
    let (rows, inner, columns) = (5, 700, 40);
    let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
    let (left, right) = (Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns));
    let mut written = vec![0.0; rows * columns];
    product(MatrixMut::new(&mut written, rows, columns), left, right, 1.0, false);
    let mut added = vec![0.0; rows * columns];
    let names = Names { first: 0, names: &[0, 1, 2, 3, 4], factors: None };
    add_product_to_rows(
        &mut MatrixMut::new(&mut added, rows, columns),
        names,
        RowProduct { left, names: None, right },
        None,
    );
    assert_eq!(bits(&written), bits(&added));
}

#[test]
fn an_empty_inner_axis_gives_zero() {
    let mut out = [5.0; 4];
    product(MatrixMut::new(&mut out, 2, 2), Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2), 1.0, false);
    assert_eq!(out, [0.0; 4]);
}

#[test]
#[should_panic(expected = "a product's axes")]
fn axes_that_do_not_agree_are_refused() {
    let mut out = [0.0; 4];
    let (left, right) = ([1.0; 6], [1.0; 4]);
    product(MatrixMut::new(&mut out, 2, 2), Matrix::new(&left, 2, 3), Matrix::new(&right, 2, 2), 1.0, false);
}

#[test]
#[should_panic(expected = "names are those of rows")]
fn a_name_past_the_last_row_is_refused() {
    let (mut out, x, right) = ([0.0; 2], [1.0; 4], [1.0; 4]);
    let (x, right) = (Matrix::new(&x, 2, 2), Matrix::new(&right, 2, 2));
    product_of_rows(MatrixMut::new(&mut out, 1, 2), RowProduct { left: x, names: Some(&[2]), right }, None);
}

#[test]
#[should_panic(expected = "names are those of rows")]
fn a_name_before_the_first_row_is_refused() {
    let (mut out, left, right) = ([0.0; 2], [1.0; 2], [1.0; 4]);
    let names = Names { first: 3, names: &[2], factors: None };
    let (left, right) = (Matrix::new(&left, 1, 2), Matrix::new(&right, 2, 2));
    let sides = RowProduct { left, names: None, right };
    add_product_to_rows(&mut MatrixMut::new(&mut out, 1, 2), names, sides, None);
}

#[test]
fn many_named_rows_are_added_with_the_bits_of_each_alone() {
    let (rows, inner, columns) = (800, 300, 40);
    let (left, right) = (numbers(rows * inner, 1), numbers(inner * columns, 2));
    let (left, right) = (Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns));
    let backwards: Vec<u32> = (0..rows as u32).rev().collect();
    let by_names = |names: &[u32], left: Matrix<'_>, rows: usize| {
        let mut out = vec![0.5; rows * columns];
        let names = Names { first: 0, names, factors: None };
        let sides = RowProduct { left, names: None, right };
        add_product_to_rows(&mut MatrixMut::new(&mut out, rows, columns), names, sides, None);
        out
    };
    let mut found = each(|| by_names(&backwards, left, rows));
    let gemm = found.pop().unwrap();
    for (machine, own) in machines().into_iter().zip(&found) {
        for row in [0, 383, 399, 400, 799] {
            let alone = told(machine, || by_names(&[0], left.window(row..row + 1, 0..inner), 1));
            let place = (rows - 1 - row) * columns;
            assert_eq!(bits(&own[place..place + columns]), bits(&alone), "row {row}");
        }
        for (own, gemm) in own.iter().zip(&gemm) {
            assert!((own - gemm).abs() < 1e-3 * (1.0 + gemm.abs()));
        }
    }
}
