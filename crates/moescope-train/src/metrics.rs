use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use moescope_host::replace;
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::files;

/// What one step measured, on its own batch and before its update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Steps done with this one: from 1 to the plan's `steps`.
    pub step: u64,
    /// Mean cross-entropy of the batch, nats per token. A sample: it scatters with the batch, and on repeated text it
    /// includes what was memorised.
    pub loss: f64,
    /// Balance loss without its coefficient, mean over the layers with router scores: 1 at even load; 0 where none.
    pub balance_loss: f64,
    /// Router z-loss without its coefficient, mean over the layers with router logits, nats squared; 0 where none.
    pub z_loss: f64,
    /// Norm of the gradients of all parameters together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// By how much the most loaded expert of the worst layer exceeds the mean load, as a share of it; 0 is even.
    pub load_max_violation: f64,
    /// Share of all experts that no token of the batch chose.
    pub dead_experts: f64,
    /// Tokens seen with this step.
    pub tokens: u64,
}

const SCHEMA: &str = "message step_metrics {
    required int64 step; required double loss; required double balance_loss; required double z_loss;
    required double gradient_norm; required double learning_rate; required double load_max_violation;
    required double dead_experts; required int64 tokens; }";

/// Writes a run's metrics as a Parquet file with one row per step, replacing the file in one go.
///
/// Columns: the fields of [`StepMetrics`] under their names. Equal metrics give equal bytes.
///
/// # Errors
/// [`TrainError::Host`] or [`TrainError::Metrics`]; an earlier file then stays.
pub fn write_metrics(path: &Path, metrics: &[StepMetrics]) -> Result<(), TrainError> {
    let bytes = encode(metrics).map_err(|error| failure(path, &error))?;
    Ok(replace(path, |file| std::io::Write::write_all(file, &bytes))?)
}

/// Reads what [`write_metrics`] wrote.
///
/// # Errors
/// [`TrainError::File`] when the file cannot be opened, [`TrainError::Metrics`] when it is no such table.
pub fn read_metrics(path: &Path) -> Result<Vec<StepMetrics>, TrainError> {
    let file = File::open(path).map_err(|source| files::failure("open", path, source))?;
    decode(file).map_err(|error| failure(path, &error))
}

fn failure(path: &Path, error: &ParquetError) -> TrainError {
    TrainError::Metrics { path: path.into(), problem: error.to_string() }
}

fn encode(metrics: &[StepMetrics]) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::default()))?;
    let mut group = writer.next_row_group()?;
    whole(&mut group, metrics, |row| row.step)?;
    real(&mut group, metrics, |row| row.loss)?;
    real(&mut group, metrics, |row| row.balance_loss)?;
    real(&mut group, metrics, |row| row.z_loss)?;
    real(&mut group, metrics, |row| row.gradient_norm)?;
    real(&mut group, metrics, |row| row.learning_rate)?;
    real(&mut group, metrics, |row| row.load_max_violation)?;
    real(&mut group, metrics, |row| row.dead_experts)?;
    whole(&mut group, metrics, |row| row.tokens)?;
    group.close()?;
    writer.close()?;
    Ok(bytes)
}

type Group<'a, 'b> = SerializedRowGroupWriter<'a, &'b mut Vec<u8>>;

fn whole(
    group: &mut Group<'_, '_>,
    metrics: &[StepMetrics],
    value: fn(&StepMetrics) -> u64,
) -> Result<(), ParquetError> {
    let values: Vec<i64> = metrics.iter().map(|row| value(row) as i64).collect();
    let mut column = group.next_column()?.expect("the schema has this column");
    column.typed::<Int64Type>().write_batch(&values, None, None)?;
    column.close()
}

fn real(
    group: &mut Group<'_, '_>,
    metrics: &[StepMetrics],
    value: fn(&StepMetrics) -> f64,
) -> Result<(), ParquetError> {
    let values: Vec<f64> = metrics.iter().map(value).collect();
    let mut column = group.next_column()?.expect("the schema has this column");
    column.typed::<DoubleType>().write_batch(&values, None, None)?;
    column.close()
}

fn decode(file: File) -> Result<Vec<StepMetrics>, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let wanted = Some(parse_message_type(SCHEMA)?);
    let rows = reader.get_row_iter(wanted)?;
    rows.map(|row| {
        let row = row?;
        Ok(StepMetrics {
            step: row.get_long(0)? as u64,
            loss: row.get_double(1)?,
            balance_loss: row.get_double(2)?,
            z_loss: row.get_double(3)?,
            gradient_norm: row.get_double(4)?,
            learning_rate: row.get_double(5)?,
            load_max_violation: row.get_double(6)?,
            dead_experts: row.get_double(7)?,
            tokens: row.get_long(8)? as u64,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> StepMetrics {
        let x = step as f64;
        StepMetrics {
            step,
            loss: 1.0 / x,
            balance_loss: 1.0 + x,
            z_loss: x.sqrt(),
            gradient_norm: 0.1 * x,
            learning_rate: 1e-3,
            load_max_violation: 0.25,
            dead_experts: 0.0,
            tokens: 64 * step,
        }
    }

    #[test]
    fn metrics_come_back_as_written_and_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.parquet");
        let rows: Vec<StepMetrics> = (1..50).map(row).collect();
        write_metrics(&path, &rows).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), rows);
        let bytes = std::fs::read(&path).unwrap();
        write_metrics(&path, &rows).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn no_steps_make_an_empty_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.parquet");
        write_metrics(&path, &[]).unwrap();
        assert_eq!(read_metrics(&path).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_no_table_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.parquet");
        std::fs::write(&path, "no table").unwrap();
        assert!(read_metrics(&path).unwrap_err().to_string().contains("metrics.parquet"));
        assert!(read_metrics(&folder.path().join("none")).unwrap_err().to_string().contains("cannot open"));
    }
}
