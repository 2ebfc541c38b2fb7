//! What an instrument found on the models of a study, as a chapter of its report.

use std::collections::BTreeSet;

use moescope_analysis::instrument::named;
use moescope_base::{Column, ColumnData, ColumnRole, Figure, FigureKind, Table};

use super::over_seeds::{OfFamily, over_seeds};
use super::{Analysis, Found};
use crate::StudyError;
use crate::conclusion::Chapter;
use crate::roster::Run;
use crate::tabulate::digits;

/// Most rows of which a picture can be read.
const MOST_ROWS: usize = 64;

impl Analysis {
    /// The chapter: what the instrument says of each model, and each of its tables over seeds.
    ///
    /// # Errors
    /// If columns make no table.
    pub(crate) fn chapter(&self) -> Result<Chapter, StudyError> {
        let instrument = named(&self.instrument).expect("the configuration was checked");
        let (about, compares) = (instrument.about(), instrument.against());
        let mut names: Vec<&str> = Vec::new();
        for table in self.runs.values().flat_map(Found::tables) {
            if !names.contains(&table.name()) {
                names.push(table.name());
            }
        }
        let (mut tables, mut figures) = (vec![self.sayings()?], Vec::new());
        for name in names {
            let id = format!("{}_{name}", self.instrument.replace('-', "_"));
            if let Some(table) = over_seeds(&format!("over_seeds_{id}"), &self.by_family(name), compares)? {
                figures.extend(figure(&id, &table));
                tables.push(table);
            }
        }
        Ok(Chapter {
            id: format!("case-{}", self.instrument),
            question: None,
            heading: format!("Beside the questions: {}", about.name),
            prose: vec![format!(
                "{} The instrument `{}` of the case was asked, on the validation text. No answer of this study rests on it, and nothing here is corrected for \
                 the number of rows: differences that were not asked for beforehand are a beginning, no finding.",
                about.question, about.name
            )],
            figures,
            tables,
            method: vec![
                format!("Null of each model: {}.", about.null),
                format!("Source: {}.", about.source),
                "Means are over what bears other names in each model (experts, heads, neurons, paths), then over seeds.".into(),
            ],
            limits: vec![format!("Does not show {}.", about.does_not_show)],
        })
    }

    /// The tables of one name by family, families in the order of their runs.
    fn by_family(&self, name: &str) -> Vec<OfFamily<'_>> {
        let mut families: Vec<OfFamily<'_>> = Vec::new();
        for (run, found) in &self.runs {
            let Some(table) = found.tables().iter().find(|table| table.name() == name) else { continue };
            let family = run.kind();
            match families.iter_mut().find(|of| of.family == family) {
                Some(of) => of.tables.push(table),
                None => families.push(OfFamily { family, tables: vec![table] }),
            }
        }
        families
    }

    /// The finding on each model in words.
    fn sayings(&self) -> Result<Table, StudyError> {
        let of = |pick: &dyn Fn(&Run, &Found) -> String| -> Vec<String> {
            self.runs.iter().map(|(run, found)| pick(run, found)).collect()
        };
        let columns = vec![
            Column::key("model", "run of the study", of(&|run, _| run.to_string())),
            Column::text("finding", "in words", of(&|_, found| found.in_words())),
        ];
        let name = format!("sayings_{}", self.instrument.replace('-', "_"));
        let title = format!("What `{}` says of each model", self.instrument);
        Ok(Table::new(
            name,
            title,
            "Titles of the figures that the instrument makes of each model.",
            columns,
        )?)
    }
}

/// A picture of the first number of a table, where its rows are few enough.
fn figure(id: &str, table: &Table) -> Option<Figure> {
    let keys = telling_keys(table);
    let value = table.columns().iter().find(|column| column.role == ColumnRole::Estimate)?;
    if !varies(value, table) {
        return None;
    }
    let families = distinct(keys[0]);
    let number = |column: &Column| matches!(column.data, ColumnData::Integer(_));
    let kind = match keys[1..] {
        [] => FigureKind::Forest { label: "family".into(), estimate: value.name.clone(), reference: None },
        [key] if number(key) && distinct(key) > 1 => FigureKind::Lines {
            x: key.name.clone(),
            y: value.name.clone(),
            series: Some("family".into()),
            log2_x: false,
        },
        [key] if table.rows() <= MOST_ROWS => {
            FigureKind::Bars { x: key.name.clone(), y: value.name.clone(), series: Some("family".into()) }
        }
        _ => return None,
    };
    Some(Figure {
        id: format!("case_{id}"),
        title: title(&keys, value, table)?,
        caption: format!(
            "{}: {}. {} over seeds of {families} families{}.",
            value.name.replace('_', " "),
            value.meaning,
            match table.companion(ColumnRole::Low, &value.name) {
                Some(_) => "Mean and 95 % t-interval",
                None => "Mean",
            },
            match table.companion(ColumnRole::Null, &value.name) {
                Some(_) => "; the null is the mean of those of the models",
                None => "",
            }
        ),
        table: table.name().into(),
        kind,
    })
}

/// The keys that tell rows apart: the family, and of the others those with several entries that no key before has just so.
fn telling_keys(table: &Table) -> Vec<&Column> {
    let keys: Vec<&Column> = table.columns().iter().filter(|column| column.role == ColumnRole::Key).collect();
    let told =
        |at: usize| at == 0 || distinct(keys[at]) > 1 && keys[..at].iter().all(|b| b.data != keys[at].data);
    (0..keys.len()).filter(|at| told(*at)).map(|at| keys[at]).collect()
}

/// Whether the number differs between seeds somewhere; a mean that follows from the sizes of a model shows nothing.
fn varies(value: &Column, table: &Table) -> bool {
    let end = |role: fn(String) -> ColumnRole| table.companion(role, &value.name);
    let (low, high) = (end(ColumnRole::Low), end(ColumnRole::High));
    (0..table.rows()).any(|row| {
        let of =
            |column: Option<&Column>| column.and_then(|column| column.data.number(row)).unwrap_or(f64::NAN);
        of(high) - of(low) > 1e-9 * of(high).abs()
    }) || low.is_none()
}

/// Different entries of a key.
fn distinct(column: &Column) -> usize {
    (0..column.data.len()).map(|row| column.data.label(row)).collect::<BTreeSet<String>>().len()
}

/// Where the number is largest and where it is smallest.
fn title(keys: &[&Column], value: &Column, table: &Table) -> Option<String> {
    let number = |row: usize| value.data.number(row).unwrap_or(f64::NAN);
    let known = || (0..table.rows()).filter(|row| number(*row).is_finite());
    let place = |row: usize| {
        let others =
            keys[1..].iter().map(|key| format!(", {} {}", key.name.replace('_', " "), key.data.label(row)));
        format!("{}{}", keys[0].data.label(row), others.collect::<String>())
    };
    let told = |row: usize| {
        let end = |role: fn(String) -> ColumnRole| {
            table.companion(role, &value.name).and_then(|column| column.data.number(row)).unwrap_or(f64::NAN)
        };
        let (low, high) = (end(ColumnRole::Low), end(ColumnRole::High));
        let interval = match low.is_finite() && high.is_finite() {
            true => format!(" [{}, {}]", digits(low), digits(high)),
            false => String::new(),
        };
        format!("{}{interval} in {}", digits(number(row)), place(row))
    };
    let largest = known().max_by(|a, b| number(*a).total_cmp(&number(*b)))?;
    let smallest = known().min_by(|a, b| number(*a).total_cmp(&number(*b)))?;
    let unit = if value.unit.is_empty() { String::new() } else { format!(" ({})", value.unit) };
    let mut name = value.name.replace('_', " ");
    // A title begins with a capital letter.
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Some(format!("{name}{unit}: from {} to {}", told(smallest), told(largest)))
}
