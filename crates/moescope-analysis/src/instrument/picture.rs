//! Pictures that follow from the columns of a table alone.

use moescope_base::{ColumnRole, Figure, FigureKind, Table};

/// The one picture that a table suggests by its columns: a heat map of layer by expert, or an estimate by layer.
///
/// `None` for a table that has no layers, or a pair of experts or a domain and experts beside them: three axes are no picture.
pub fn layer_figure(table: &Table) -> Option<Figure> {
    let has = |name: &str| table.column(name).is_some();
    let estimate = table
        .columns()
        .iter()
        .find(|column| matches!(column.role, ColumnRole::Estimate) && column.data.number(0).is_some())?;
    let value = estimate.name.clone();
    let kind = match (has("layer"), has("expert"), has("partner")) {
        (true, true, false) if !has("domain") => {
            FigureKind::Heatmap { x: "expert".into(), y: "layer".into(), value, center: None }
        }
        (true, false, _) => {
            let series = ["label", "unit"].into_iter().find(|name| has(name)).map(str::to_owned);
            FigureKind::Bars { x: "layer".into(), y: value, series }
        }
        _ => return None,
    };
    Some(Figure {
        id: format!("{}_figure", table.name()),
        title: table.title().to_owned(),
        caption: sentence(&estimate.meaning),
        table: table.name().to_owned(),
        kind,
    })
}

/// A meaning as a sentence: with a capital and a full stop.
fn sentence(meaning: &str) -> String {
    let mut letters = meaning.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
