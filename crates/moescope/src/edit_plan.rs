//! The file of `--edit`: a list of edits in TOML, some of which take their numbers from files.
//!
//! Besides the keys of [`Edit`] a table may have two that only a file needs. `from` names what another run recorded, for
//! `patch`, `mean` and `replay`; `renormalise` beside a route edit says whether the weights of its layer are divided by
//! their sum. Both become plain edits here, so that the library's edits stay plain data.

use std::path::{Path, PathBuf};

use moescope_base::{Axis, Edit, EditSourceError, HookPoint, RouteEdit, Site, Tokens, Value, ValueEdit};
use moescope_trace::{TraceFolder, read_input_ids, read_recorded};
use moescope_train::{TrainError, parse_toml};
use serde::Deserialize;
use toml::{Spanned, Table};

use crate::failure::Failure;

/// The file as it is written: tables, each with its place. They are applied in order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    edit: Vec<Spanned<Table>>,
}

/// One table as a list, in the form that the library reads.
#[derive(Deserialize)]
struct Plan {
    edit: Vec<Edit>,
}

/// Reads the edits of a file for a run over `tokens`. Files that it names are looked for beside it.
///
/// # Errors
/// For an unknown key or value, with the nearest known one; for a file that is missing, lacks the value, or was recorded over a
/// batch of another shape. Each with the line of the file, and the number of the edit, counted from 1.
pub fn read(path: &Path, tokens: &Tokens) -> Result<Vec<Edit>, Failure> {
    let text = moescope_host::read_text(path)?;
    let place = path.display().to_string();
    let written: Written = parse_toml(&text, &place)?;
    let source = Source { folder: path.parent().unwrap_or(Path::new("")), tokens };
    let mut edits = Vec::new();
    for (number, table) in written.edit.into_iter().enumerate() {
        let span = table.span();
        edits.extend(source.edits(table.into_inner()).map_err(|why| {
            let line = line_of(&text, span.start, &why.message);
            let message = format!("{place}:{line}: edit {}: {}", number + 1, why.message);
            Failure { message, ..why }
        })?);
    }
    Ok(edits)
}

/// The files and folders that a plan names with `from`, whatever is in them.
///
/// A table without `from` names none, and one file that two tables name comes twice. The files themselves are
/// not opened.
///
/// # Errors
/// If the plan cannot be read as one.
pub fn sources(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let text = moescope_host::read_text(path)?;
    let written: Written = parse_toml(&text, &path.display().to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let from = |table: Spanned<Table>| Some(folder.join(table.into_inner().get("from")?.as_str()?));
    Ok(written.edit.into_iter().filter_map(from).collect())
}

/// The line that a message is about, counted from 1: of the table that begins at byte `start`, the first line of a key or value that the
/// message names between backticks; else that of its operation, else its first.
fn line_of(text: &str, start: usize, message: &str) -> usize {
    let (first, _) = moescope_host::line_and_column(text, start);
    let header = |line: &str| line.trim_start().starts_with("[[");
    let lines: Vec<&str> = text.lines().skip(first - 1).collect();
    let end = lines.iter().skip(1).position(|line| header(line)).map_or(lines.len(), |at| at + 1);
    let has_key = |line: &str, key: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let find = |wanted: &dyn Fn(&str) -> bool| lines[..end].iter().position(|line| wanted(line));
    let mut named = message.split('`').skip(1).step_by(2);
    let about = named.find_map(|name| {
        find(&|line| has_key(line, name)).or_else(|| find(&|line| line.contains(&format!("\"{name}\""))))
    });
    first + about.or_else(|| find(&|line| has_key(line, "op"))).unwrap_or(0)
}

/// Refuses keys that an edit does not have. The parser cannot: an edit's keys depend on its operation, and what it does not
/// know it passes over, so a misspelt key would silently do nothing.
fn require_no_surplus(table: Option<&Table>, edit: &Edit, besides: &[&str]) -> Result<(), Failure> {
    let understood = Table::try_from(edit).expect("an edit is plain data");
    let surplus = table.into_iter().flatten().find(|(key, _)| !understood.contains_key(*key));
    let Some((key, _)) = surplus else { return Ok(()) };
    let known: Vec<&str> = understood.keys().map(String::as_str).chain(besides.iter().copied()).collect();
    Err(Failure::input(format!("it has the key `{key}`; its keys are {}", known.join(", "))))
}

/// Where an edit's numbers come from, and for which batch.
struct Source<'a> {
    folder: &'a Path,
    tokens: &'a Tokens,
}

impl Source<'_> {
    /// The edits that one table stands for.
    ///
    /// A table is one edit, or two where a route edit has `renormalise` beside it: then a second edit of the
    /// same layer follows, which says whether the weights are divided by their sum.
    fn edits(&self, mut table: Table) -> Result<Vec<Edit>, Failure> {
        let text = |table: &Table, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let (kind, op) = (text(&table, "kind"), text(&table, "op").unwrap_or_default());
        // An edit of its own has this key as part of it.
        let own = matches!(op.as_str(), "renormalise" | "set-weight");
        let stated = match kind.as_deref() {
            Some("route") if !own => table.remove("renormalise"),
            _ => None,
        };
        let stated = stated.map(|stated| stated.as_bool().ok_or_else(not_a_flag)).transpose()?;
        let edit = match table.remove("from") {
            None => {
                let edit = typed(&table)?;
                require_no_surplus(
                    Some(&table),
                    &edit,
                    if kind.as_deref() == Some("route") { &["renormalise"] } else { &[] },
                )?;
                edit
            }
            Some(from) => {
                let from = from.as_str().map(|from| self.folder.join(from));
                self.recorded(
                    table,
                    &op,
                    &from.ok_or_else(|| Failure::input("`from` is no text; wanted the name of a file"))?,
                )?
            }
        };
        let mut edits = vec![edit];
        if let (Some(renormalise), Edit::Route { layer, .. }) = (stated, &edits[0]) {
            edits.push(Edit::Route { layer: *layer, change: RouteEdit::Renormalise { renormalise } });
        }
        Ok(edits)
    }

    /// An edit whose numbers are in a file. The operation is read with another of the same place, which needs no numbers.
    fn recorded(&self, mut table: Table, op: &str, from: &Path) -> Result<Edit, Failure> {
        let (stand_in, besides): (&str, &[&str]) = match op {
            "patch" | "mean" => ("mean", &["from"]),
            "replay" => ("swap", &["from", "renormalise"]),
            _ => {
                return Err(Failure::input(format!(
                    "`from` goes with the operations patch, mean and replay, and this one is `{op}`"
                )));
            }
        };
        table.insert("op".into(), stand_in.into());
        let given = table.contains_key("with");
        if stand_in == "swap" && !given {
            table.insert("with".into(), 0.into());
        }
        let mut edit = typed(&table)?;
        if given {
            return Err(Failure::input(
                "it has the key `with`; its keys are kind, layer, op, from, renormalise",
            ));
        }
        require_no_surplus(Some(&table), &edit, besides)?;
        match &mut edit {
            Edit::Value { at, change, .. } => *change = self.value(*at, op, from)?,
            Edit::Route { layer, change } => *change = self.replay(*layer as usize, from)?,
        }
        Ok(edit)
    }

    /// A patch or a mean of what the file holds under the edited point's name.
    fn value(&self, at: HookPoint, op: &str, from: &Path) -> Result<ValueEdit, Failure> {
        let value = read_recorded(from, at)?;
        let refused = |error: EditSourceError| Failure::input(format!("{}: `{at}`: {error}", from.display()));
        if op == "mean" {
            return ValueEdit::mean_of(&value).map_err(refused);
        }
        self.require_batch(at, &value, from)?;
        ValueEdit::patch_of(&value).map_err(refused)
    }

    /// Routes of a layer: from a file of `moescope record`, or from what `moescope routing` wrote, a folder or its Parquet file.
    fn replay(&self, layer: usize, from: &Path) -> Result<RouteEdit, Failure> {
        let parquet = from.extension().is_some_and(|ending| ending == "parquet");
        if from.is_dir() || parquet {
            let folder: PathBuf =
                if parquet { from.parent().unwrap_or(Path::new("")).into() } else { from.into() };
            return Ok(RouteEdit::Replay { choices: TraceFolder::open(&folder)?.layer(layer)?.choices });
        }
        let at = HookPoint::block(Site::RouterIndices, layer);
        let value = read_recorded(from, at)?;
        self.require_batch(at, &value, from)?;
        RouteEdit::replay_of(&value)
            .map_err(|error| Failure::input(format!("{}: `{at}`: {error}", from.display())))
    }

    /// Refuses a value of a batch of another shape: its rows would be put at other tokens.
    fn require_batch(&self, at: HookPoint, value: &Value, from: &Path) -> Result<(), Failure> {
        let found = match at.site().axes() {
            [Axis::Row, ..] => {
                let tokens = read_input_ids(from)?;
                [tokens.batch(), tokens.positions()]
            }
            // A pattern: batch, head, query, key.
            [_, Axis::Head, ..] => [value.shape()[0], value.shape()[2]],
            _ => [value.shape()[0], value.shape()[1]],
        };
        let wanted = [self.tokens.batch(), self.tokens.positions()];
        if found == wanted {
            return Ok(());
        }
        Err(Failure::input(format!(
            "{}: `{at}` was recorded over {} sequences of {} tokens, and this run has {} of {}; record as many",
            from.display(),
            found[0],
            found[1],
            wanted[0],
            wanted[1]
        )))
    }
}

fn not_a_flag() -> Failure {
    Failure::input("`renormalise` is neither true nor false")
}

/// One edit from its table; the message is without line and column, since the table is not as it was written.
fn typed(table: &Table) -> Result<Edit, Failure> {
    let list = toml::Value::Array(vec![table.clone().into()]);
    let text = Table::from_iter([("edit".to_owned(), list)]).to_string();
    let mut plan: Plan = parse_toml(&text, "").map_err(|error| match error {
        TrainError::Config { problem, .. } => Failure::input(problem),
        other => other.into(),
    })?;
    Ok(plan.edit.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{TokenSelection, ValueData};
    use moescope_trace::{Recording, write_recording};
    use std::collections::BTreeMap;

    fn tokens() -> Tokens {
        Tokens::new(vec![1, 2], 1, 2).unwrap()
    }

    /// A folder with a recording of two tokens, and what a plan beside it reads as.
    fn plan(text: &str) -> Result<Vec<Edit>, String> {
        let folder = tempfile::tempdir().unwrap();
        let residual = HookPoint::block(Site::ResidPost, 0);
        let routes = HookPoint::block(Site::RouterIndices, 1);
        let value = |point, data| Value::new(point, vec![1, 2, 2], data, None).unwrap();
        let values = BTreeMap::from([
            (residual, value(residual, ValueData::Real(vec![1.0, 2.0, 3.0, 6.0]))),
            (routes, value(routes, ValueData::Integer(vec![0, 1, 4, 2]))),
        ]);
        let recording = Recording {
            tokens: tokens(),
            values,
            gradients: BTreeMap::new(),
            loss: vec![0.0],
            objective: None,
        };
        write_recording(&folder.path().join("r.safetensors"), &recording, &[]).unwrap();
        let path = folder.path().join("plan.toml");
        std::fs::write(&path, text).unwrap();
        read(&path, &tokens()).map_err(|failure| failure.message)
    }

    const AT: &str = "[[edit]]\nkind = \"value\"\nat = \"blocks.0.hook_resid_post\"\n";
    const ROUTE: &str = "[[edit]]\nkind = \"route\"\nlayer = 1\n";

    #[test]
    fn numbers_come_from_the_file_that_is_named() {
        let at = HookPoint::block(Site::ResidPost, 0);
        let edit = |change| Edit::Value { at, tokens: TokenSelection::All, change };
        let patch = plan(&format!("{AT}op = \"patch\"\nfrom = \"r.safetensors\"\n")).unwrap();
        let rows = vec![1.0, 2.0, 3.0, 6.0];
        assert_eq!(patch, [edit(ValueEdit::PatchByToken { of: vec![0, 1], rows })]);
        let mean = plan(&format!("{AT}op = \"mean\"\nfrom = \"r.safetensors\"\ntokens = {{ rows = [1] }}\n"))
            .unwrap();
        let Edit::Value { tokens, change, .. } = &mean[0] else { panic!("{mean:?}") };
        assert_eq!(
            (tokens, change),
            (&TokenSelection::Rows(vec![1]), &ValueEdit::Set { vector: vec![2.0, 4.0] })
        );
        let replay =
            plan(&format!("{ROUTE}op = \"replay\"\nfrom = \"r.safetensors\"\nrenormalise = false\n"))
                .unwrap();
        let changes =
            [RouteEdit::Replay { choices: vec![0, 1, 4, 2] }, RouteEdit::Renormalise { renormalise: false }];
        assert_eq!(replay, changes.map(|change| Edit::Route { layer: 1, change }));
    }

    #[test]
    fn every_operation_has_its_spelling() {
        let text = format!(
            "{AT}op = \"mean\"\n{AT}op = \"resample\"\nseed = 3\n{ROUTE}op = \"swap\"\nwith = 2\n{ROUTE}op = \"shuffle\"\nseed = 1\n\
             {ROUTE}op = \"top-k\"\nk = 2\n{ROUTE}op = \"temperature\"\ntemperature = 0.5\nrenormalise = true\n\
             {ROUTE}op = \"renormalise\"\nrenormalise = true\n\
             {ROUTE}op = \"set-weight\"\nexperts = [1]\nweight = 0.5\nrenormalise = true\n{ROUTE}op = \"ban\"\nexperts = [3]\n"
        );
        let edits = plan(&text).unwrap();
        assert_eq!(edits.len(), 10);
        assert_eq!(edits[4], Edit::Route { layer: 1, change: RouteEdit::TopK { k: 2 } });
        assert_eq!(edits[6], Edit::Route { layer: 1, change: RouteEdit::Renormalise { renormalise: true } });
    }

    #[test]
    fn mistakes_are_named_with_the_number_of_the_edit() {
        let refused = |text: String, reasons: &[&str]| {
            let message = plan(&text).unwrap_err();
            assert!(reasons.iter().all(|reason| message.contains(reason)), "{message}");
        };
        let from = "from = \"r.safetensors\"\n";
        refused(format!("{AT}op = \"scale\"\nfactor = 1.0\n{from}"), &["edit 1", "`scale`"]);
        refused(
            format!("{ROUTE}op = \"ban\"\nexperts = [1]\n{AT}op = \"patch\"\nrow = 1\n{from}"),
            &["edit 2", "`row`"],
        );
        refused(format!("{ROUTE}op = \"replay\"\nwith = 1\n{from}"), &["`with`"]);
        refused(
            format!("{ROUTE}op = \"bam\"\nexperts = [1]\nrenormalise = true\n"),
            &["edit 1", "did you mean `ban`"],
        );
        refused(
            format!("{ROUTE}op = \"ban\"\nexperts = [1]\nrenormalise = 1\n"),
            &["neither true nor false"],
        );
        refused(format!("{ROUTE}op = \"set-weight\"\nexperts = [1]\nweight = 0.5\n"), &["renormalise"]);
        refused(format!("{AT}op = \"zero\"\nrenormalise = true\n"), &["`renormalise`"]);
        refused(format!("{AT}op = \"patch\"\nfrom = \"none.safetensors\"\n"), &["none.safetensors"]);
        let elsewhere = AT.replace("resid_post", "resid_mid");
        refused(
            format!("{elsewhere}op = \"patch\"\n{from}"),
            &["hook_resid_mid", "--hooks", "hook_resid_post"],
        );
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let line = |text: &str, wanted: &str| {
            let message = plan(text).unwrap_err();
            assert!(message.contains(&format!("plan.toml:{wanted}: ")), "{message}");
        };
        let good = format!("{AT}op = \"zero\"\n\n");
        line(&format!("{good}{AT}op = \"zeor\"\n"), "9");
        line(&format!("{good}{AT}op = \"scale\"\nfactr = 2.0\nfactor = 1.0\n"), "10");
        line(&format!("{good}{}op = \"zero\"\n", AT.replace("resid_post", "resid_pots")), "8");
        line(&format!("{good}{AT}op = \"scale\"\n"), "9");
        line(&format!("{good}edits = 3\n"), "6");
    }

    #[test]
    fn recorded_choices_can_be_patched() {
        let text = "[[edit]]\nkind = \"value\"\nat = \"blocks.1.mlp.router.hook_indices\"\nop = \"patch\"\nfrom = \"r.safetensors\"\n";
        let Edit::Value { change, .. } = plan(text).unwrap().remove(0) else { panic!("a value edit") };
        assert_eq!(change, ValueEdit::PatchByToken { of: vec![0, 1], rows: vec![0.0, 1.0, 4.0, 2.0] });
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = HookPoint::block(Site::ResidPost, 0);
        let value = Value::new(at, vec![1, 2, 1], ValueData::Real(vec![1.0, 2.0]), None).unwrap();
        let recording = Recording {
            tokens: tokens(),
            values: BTreeMap::from([(at, value)]),
            gradients: BTreeMap::new(),
            loss: vec![0.0],
            objective: None,
        };
        write_recording(&folder.path().join("r.safetensors"), &recording, &[]).unwrap();
        let path = folder.path().join("plan.toml");
        std::fs::write(&path, format!("{AT}op = \"patch\"\nfrom = \"r.safetensors\"\n")).unwrap();
        let longer = Tokens::new(vec![1, 2, 3], 1, 3).unwrap();
        let message = read(&path, &longer).unwrap_err().message;
        assert!(message.contains("1 sequences of 2 tokens, and this run has 1 of 3"), "{message}");
    }
}
