//! Findings in words, read from the tables that hold them.

use moescope_base::{ColumnData, ColumnRole, Table};

use crate::wording::counted;

/// How evenly experts are used: from the table `routing_load`.
pub(super) fn load(table: &Table) -> Option<String> {
    let (low, high) = range(table, "effective_experts")?;
    let experts = table.companion(ColumnRole::Null, "effective_experts")?.data.number(0)?;
    Some(if high - low < 0.05 {
        format!("Each layer uses its {experts:.0} experts as evenly as if there were {high:.1}")
    } else {
        format!("Layers use their {experts:.0} experts as evenly as if there were {low:.1} to {high:.1}")
    })
}

/// By how much loads differ: from the table `routing_load_by_expert`.
pub(super) fn load_by_expert(table: &Table) -> Option<String> {
    let even = &table.companion(ColumnRole::Null, "load")?.data;
    let load = &table.column("load")?.data;
    let ratios = (0..table.rows()).filter_map(|row| Some(load.number(row)? / even.number(row)?));
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    ratios.for_each(|ratio| (low, high) = (low.min(ratio), high.max(ratio)));
    (low <= high).then(|| match format!("{low:.2}") == format!("{high:.2}") {
        true => "Every expert receives an even share of the slots".to_owned(),
        false => format!("Experts receive {low:.2} to {high:.2} times an even share of the slots"),
    })
}

/// How decided routers are: from the table `routing_sharpness`; nothing where routers do not score.
pub(super) fn sharpness(table: &Table) -> Option<String> {
    let (low, high) = range(table, "effective_choices")?;
    let experts = table.companion(ColumnRole::Null, "effective_choices")?.data.number(0)?;
    Some(match format!("{low:.1}") == format!("{high:.1}") {
        true => format!("Routers are as undecided as among {high:.1} of {experts:.0} experts"),
        false => format!("Routers are as undecided as among {low:.1} to {high:.1} of {experts:.0} experts"),
    })
}

/// How strongly experts go together, and under a null of this name: from the table `routing_coactivation`.
pub(super) fn together(table: &Table, null_name: &str) -> Option<String> {
    let (low, high) = range(table, "strongest_partner")?;
    let null = table.companion(ColumnRole::Null, "strongest_partner")?.name.clone();
    let (chance_low, chance_high) = range(table, &null)?;
    Some(format!(
        "An expert's strongest partner comes with it in {} of its tokens, {} {null_name}",
        percent(low, high),
        percent(chance_low, chance_high)
    ))
}

/// What neighbours keep, and under a null of this name: from the table `routing_locality`.
pub(super) fn locality(table: &Table, null_name: &str) -> Option<String> {
    let (low, high) = range(table, "overlap")?;
    let null = table.companion(ColumnRole::Null, "overlap")?.name.clone();
    let (chance_low, chance_high) = range(table, &null)?;
    Some(format!(
        "The next token keeps {} of a token's experts, {} {null_name}",
        percent(low, high),
        percent(chance_low, chance_high)
    ))
}

/// Two shares as one range of whole percents.
pub(super) fn percent(low: f64, high: f64) -> String {
    let [low, high] = [low, high].map(|share| format!("{:.0}", 100.0 * share));
    if low == high { format!("{low} %") } else { format!("{low} to {high} %") }
}

/// What the choice of an expert tells about the domain, with and without the token; about the token where there is one domain: from the
/// table `specialisation`.
pub(super) fn specialisation(table: &Table) -> Option<String> {
    match Tested::of(table, "domain", "") {
        Some(alone) => {
            let told = format!("The choice of an expert tells of the domain in {}", alone.in_words());
            Some(match Tested::of(table, "domain", "token") {
                Some(beyond) if alone.can_tell => {
                    format!("{told}, beyond what the token tells in {} (p ≤ 0.05 in each)", beyond.found)
                }
                _ => told + alone.level(),
            })
        }
        None => {
            let token = Tested::of(table, "token", "")?;
            Some(format!(
                "The choice of an expert tells of the token in {}{}",
                token.in_words(),
                token.level()
            ))
        }
    }
}

/// Tests of one label in all layers.
struct Tested {
    /// Layers with p ≤ 0.05.
    found: usize,
    layers: usize,
    /// Whether any p-value could have been so small: with few permutations, or documents that cannot be exchanged, none can.
    can_tell: bool,
}

impl Tested {
    fn of(table: &Table, label: &str, given: &str) -> Option<Tested> {
        let rows: Vec<usize> = (0..table.rows())
            .filter(|row| is(table, *row, "label", label) && is(table, *row, "given", given))
            .collect();
        let p = table.companion(ColumnRole::PValue, "information")?;
        let found = rows.iter().filter(|row| p.data.number(**row).is_some_and(|p| p <= 0.05)).count();
        let number = |name: &str, row: usize| table.column(name).and_then(|column| column.data.number(row));
        let draws = |row: usize| {
            table.companion(ColumnRole::Count, "information_null").and_then(|count| count.data.number(row))
        };
        let varies =
            |row: usize| match (number("information_null_low", row), number("information_null_high", row)) {
                (Some(low), Some(high)) => high - low > 1e-12,
                _ => true,
            };
        let can_tell = rows.iter().any(|row| draws(*row).is_none_or(|draws| draws >= 19.0) && varies(*row));
        (!rows.is_empty()).then_some(Tested { found, layers: rows.len(), can_tell })
    }

    fn in_words(&self) -> String {
        match self.can_tell {
            true => format!("{} of {}", self.found, counted(self.layers, "layer", "layers")),
            false => "none of the layers for certain: too few documents or permutations to tell".to_owned(),
        }
    }

    fn level(&self) -> &'static str {
        if self.can_tell { " (p ≤ 0.05 in each)" } else { "" }
    }
}

/// How many paths are used: from a table of effective numbers.
pub(super) fn paths(table: &Table) -> Option<String> {
    let row = (0..table.rows()).find(|row| is(table, *row, "unit", "path"))?;
    let number = |name: &str| table.column(name)?.data.number(row);
    let possible = number("possible")
        .or_else(|| table.companion(ColumnRole::Null, "entropy").and_then(|null| null.data.number(row)))?;
    let (used, seen) = (number("effective_number")?, number("coverage")?);
    Some(format!(
        "About {used:.0} paths are in use, of 2^{possible:.0} possible; {:.0} % of what is to come has been seen",
        100.0 * seen
    ))
}

/// Whether a key column has this entry in a row.
pub(super) fn is(table: &Table, row: usize, column: &str, entry: &str) -> bool {
    match table.column(column).map(|column| &column.data) {
        Some(ColumnData::Text(entries)) => entries[row] == entry,
        _ => false,
    }
}

/// Smallest and largest entry of a column.
pub(super) fn range(table: &Table, column: &str) -> Option<(f64, f64)> {
    let data = &table.column(column)?.data;
    let numbers = || (0..data.len()).filter_map(|row| data.number(row)).filter(|number| number.is_finite());
    let low = numbers().reduce(f64::min)?;
    Some((low, numbers().reduce(f64::max)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Column;

    #[test]
    fn a_load_is_told_with_its_range() {
        let columns = |low: f64| {
            vec![
                Column::integer_key("layer", "", "block", vec![0, 1]),
                Column::estimate("effective_experts", "experts", "e", vec![low, 7.52]),
                Column::null("effective_experts", "experts", "even", vec![8.0, 8.0]),
            ]
        };
        let told = |low| load(&Table::new("routing_load", "T", "", columns(low)).unwrap()).unwrap();
        assert_eq!(told(3.0), "Layers use their 8 experts as evenly as if there were 3.0 to 7.5");
        assert_eq!(told(7.5), "Each layer uses its 8 experts as evenly as if there were 7.5");
    }

    #[test]
    fn a_share_is_told_beside_its_null() {
        let columns = vec![
            Column::integer_key("layer", "", "block", vec![0, 1]),
            Column::estimate("overlap", "share", "o", vec![0.31, 0.5]),
            Column::null("overlap", "share", "n", vec![0.25, 0.251]),
        ];
        let table = Table::new("routing_locality", "T", "", columns).unwrap();
        let told = locality(&table, "where tokens are shuffled").unwrap();
        assert_eq!(
            told,
            "The next token keeps 31 to 50 % of a token's experts, 25 % where tokens are shuffled"
        );
        let columns = vec![
            Column::integer_key("layer", "", "block", vec![0, 0]),
            Column::estimate("load", "share", "l", vec![0.75, 0.25]),
            Column::null("load", "share", "n", vec![0.5, 0.5]),
        ];
        let told = load_by_expert(&Table::new("routing_load_by_expert", "T", "", columns).unwrap()).unwrap();
        assert_eq!(told, "Experts receive 0.50 to 1.50 times an even share of the slots");
    }

    #[test]
    fn domain_and_token_are_told_apart() {
        let columns = vec![
            Column::key("label", "l", ["domain", "domain", "domain", "token"].map(String::from).to_vec()),
            Column::key("given", "g", ["", "", "token", ""].map(String::from).to_vec()),
            Column::estimate("information", "bits", "i", vec![0.1, 0.2, 0.3, 0.4]),
            Column::p_value("information", "p", vec![0.01, 0.5, 0.6, 0.01]),
        ];
        let told = specialisation(&Table::new("specialisation", "T", "", columns).unwrap()).unwrap();
        assert!(told.contains("in 1 of 2 layers, beyond what the token tells in 0"), "{told}");
    }

    #[test]
    fn tests_that_cannot_find_anything_are_not_told_as_absence() {
        let told = |draws: i64, high: f64| {
            let mut columns = vec![
                Column::key("label", "l", vec!["domain".into()]),
                Column::key("given", "g", vec![String::new()]),
                Column::estimate("information", "bits", "i", vec![0.1]),
                Column::p_value("information", "p", vec![0.5]),
                Column::null("information", "bits", "n", vec![0.1]),
                Column::observations("information_null", "permutations", vec![draws]),
            ];
            columns.extend(Column::interval("information_null", "bits", "i", vec![0.1], vec![high]));
            specialisation(&Table::new("specialisation", "T", "", columns).unwrap()).unwrap()
        };
        assert!(told(99, 0.2).contains("in 0 of 1 layer (p"), "{}", told(99, 0.2));
        assert!(told(1, 0.2).contains("too few") && told(99, 0.1).contains("too few"));
    }

    #[test]
    fn a_table_without_the_columns_is_told_nothing_about() {
        let table = Table::new("t", "T", "", vec![Column::estimate("x", "", "x", vec![1.0])]).unwrap();
        assert!(load(&table).is_none() && specialisation(&table).is_none() && paths(&table).is_none());
    }
}
