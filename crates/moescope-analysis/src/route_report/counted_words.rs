//! Findings of counted routes in words. Nothing is tested there, and the words claim no more than that.

use moescope_base::{ColumnRole, Table};

use super::words::{is, percent, range};

/// What counts of routes tell about the domain, or the token where there is one domain: from the table `counted_specialisation`.
///
/// Nothing is tested, and the words say so.
pub(super) fn specialisation(table: &Table) -> Option<String> {
    let excess = &table.column("excess")?.data;
    let of = |label: &str| -> Vec<f64> {
        let rows = (0..table.rows()).filter(|row| is(table, *row, "label", label));
        rows.filter_map(|row| excess.number(row)).collect()
    };
    let (label, found) = ["domain", "token"]
        .into_iter()
        .map(|label| (label, of(label)))
        .find(|(_, found)| !found.is_empty())?;
    let (low, high) = (found.iter().copied().reduce(f64::min)?, found.iter().copied().reduce(f64::max)?);
    let range = match format!("{low:.3}") == format!("{high:.3}") {
        true => format!("{high:.3}"),
        false => format!("{low:.3} to {high:.3}"),
    };
    let given = of("domain given token");
    let beyond = match given.iter().copied().reduce(f64::max) {
        Some(most) if label == "domain" => format!(", given a frequent token up to {most:.3},"),
        _ => String::new(),
    };
    Some(format!(
        "The choice of an expert tells {range} bits of the {label}{beyond} beyond what counting finds in nothing (not tested: slots of a document \
         are not independent)"
    ))
}

/// What a layer's first choice tells about the next: from the table `counted_next_layer`.
pub(super) fn next_layer(table: &Table) -> Option<String> {
    let (low, high) = range(table, "share")?;
    Some(format!(
        "A layer's first choice tells {} of the next layer's, beyond what counting finds in nothing (not tested)",
        percent(low, high)
    ))
}

/// How few experts hold most of the weight: from the table `counted_committee`.
pub(super) fn committee(table: &Table) -> Option<String> {
    let (low, high) = range(table, "size")?;
    let (even_low, even_high) = range(table, &table.companion(ColumnRole::Null, "size")?.name.clone())?;
    let hold = if high == 1.0 { "holds" } else { "hold" };
    Some(format!(
        "{} of a layer {hold} 70 % of the routed weight, {} of an even load",
        experts(low, high),
        experts(even_low, even_high)
    ))
}

/// A number of experts, or from one to another.
fn experts(low: f64, high: f64) -> String {
    match low == high {
        true if high == 1.0 => "1 expert".to_owned(),
        true => format!("{high:.0} experts"),
        false => format!("{low:.0} to {high:.0} experts"),
    }
}

/// Whether domains use the same experts: from the table `counted_committee_domains`.
pub(super) fn committee_domains(table: &Table) -> Option<String> {
    let (low, high) = range(table, "weight")?;
    let (same_low, same_high) = range(table, &table.companion(ColumnRole::Null, "weight")?.name.clone())?;
    Some(format!(
        "What two domains send to experts has {} in common, what halves of one domain send {} (Jaccard index)",
        percent(low, high),
        percent(same_low, same_high)
    ))
}

/// What is known of a route before the model computes: from the table `counted_predictability`.
pub(super) fn foretold(table: &Table) -> Option<String> {
    let overlap = &table.column("overlap")?.data;
    let load = &table.companion(ColumnRole::Null, "overlap")?.data;
    let mean = |predictor: &str| {
        let rows: Vec<usize> =
            (0..table.rows()).filter(|row| is(table, *row, "predictor", predictor)).collect();
        let of = |data: &moescope_base::ColumnData| -> Option<f64> {
            let sum: f64 = rows.iter().filter_map(|row| data.number(*row)).sum();
            (!rows.is_empty()).then(|| sum / rows.len() as f64)
        };
        Some((of(overlap)?, of(load)?))
    };
    let ((token, load), (bigram, _)) = (mean("token")?, mean("token and the one before")?);
    Some(format!(
        "The token foretells {:.0} % of its route, with the one before it {:.0} %, the load alone {:.0} % (means over layers, each half of the \
         documents judged by the other)",
        100.0 * token,
        100.0 * bigram,
        100.0 * load
    ))
}

/// Whether paths name more than experts: from the table `counted_path_labels`.
pub(super) fn path_labels(table: &Table) -> Option<String> {
    let number = |name: &str| table.column(name)?.data.number(0);
    let alone = table.companion(ColumnRole::Null, "named")?.data.number(0)?;
    let labels = table.column("label")?.data.label(0);
    let sampled = match number("named_error")? {
        error if error > 0.0 => format!(" (± {:.1} for paths that were not kept)", 196.0 * error),
        _ => String::new(),
    };
    Some(format!(
        "The path of {} names the {labels} of {:.0} % of the tokens{}, the best layer alone {:.0} %, the most frequent {labels} {:.0} %; of {:.0} % \
         the other half of the documents has the path",
        table.column("kind")?.data.label(0),
        100.0 * number("named")?,
        sampled,
        100.0 * number("by_expert")?,
        100.0 * alone,
        100.0 * number("seen")?
    ))
}

/// What caches find: from the table `counted_expert_cache`.
pub(super) fn cache(table: &Table) -> Option<String> {
    let number = |name: &str, row: usize| table.column(name)?.data.number(row);
    let null = &table.companion(ColumnRole::Null, "hit_rate")?.data;
    let first = number("layer", 0)?;
    let own: Vec<usize> = (0..table.rows()).filter(|row| number("layer", *row) == Some(first)).collect();
    let all = number("room", *own.last()?)?;
    let half = own.into_iter().find(|row| number("room", *row).is_some_and(|room| 2.0 * room >= all))?;
    let room = number("room", half)?;
    let has_as_many = |row: usize| {
        let of_layer = (0..table.rows()).filter(|other| number("layer", *other) == number("layer", row));
        of_layer.filter_map(|other| number("room", other)).fold(0.0, f64::max) == all
    };
    let rows = || (0..table.rows()).filter(|row| number("room", *row) == Some(room) && has_as_many(*row));
    let mean = |of: &dyn Fn(usize) -> Option<f64>| {
        let found: Vec<f64> = rows().filter_map(of).collect();
        found.iter().sum::<f64>() / found.len() as f64
    };
    Some(format!(
        "A cache of {room:.0} of {all:.0} experts holds the one that is needed in {:.0} % of the slots, {:.0} % with each document's tokens in random \
         order (means over layers of as many experts)",
        100.0 * mean(&|row| number("hit_rate", row)),
        100.0 * mean(&|row| null.number(row))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Column;

    #[test]
    fn numbers_of_experts_are_told_beside_their_null() {
        let columns = |sizes: Vec<f64>| {
            vec![
                Column::integer_key("layer", "", "block", vec![0, 1]),
                Column::estimate("size", "experts", "s", sizes),
                Column::null("size", "experts", "even", vec![6.0, 6.0]),
            ]
        };
        let told =
            |sizes| committee(&Table::new("counted_committee", "T", "", columns(sizes)).unwrap()).unwrap();
        assert_eq!(
            told(vec![1.0, 1.0]),
            "1 expert of a layer holds 70 % of the routed weight, 6 experts of an even load"
        );
        assert!(told(vec![2.0, 5.0]).starts_with("2 to 5 experts"));
    }

    #[test]
    fn the_middle_size_of_a_cache_is_told() {
        let columns = vec![
            Column::integer_key("layer", "", "block", vec![0, 0, 0, 1, 1, 1]),
            Column::integer_key("room", "experts", "r", vec![1, 2, 4, 1, 2, 4]),
            Column::estimate("hit_rate", "share", "h", vec![0.1, 0.5, 0.9, 0.2, 0.7, 0.9]),
            Column::null("hit_rate", "share", "n", vec![0.1, 0.4, 0.9, 0.1, 0.4, 0.9]),
        ];
        let told = cache(&Table::new("counted_expert_cache", "T", "", columns).unwrap()).unwrap();
        assert!(
            told.starts_with("A cache of 2 of 4 experts holds") && told.contains("60 % of the slots, 40 %")
        );
    }

    #[test]
    fn a_table_without_the_columns_is_told_nothing_about() {
        let table = Table::new("t", "T", "", vec![Column::estimate("x", "", "x", vec![1.0])]).unwrap();
        let all = [specialisation, next_layer, committee, committee_domains, foretold, path_labels, cache];
        assert!(all.iter().all(|words| words(&table).is_none()));
    }
}
