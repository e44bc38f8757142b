//! Automerge's chunks, looked through before Automerge sees them.
//!
//! Automerge 0.12 trusts counts: a column of a few bytes may say that it holds 2^60 rows, a compressed one
//! may inflate without end, and many malformed layouts panic. Our records use a small part of the format,
//! so everything else is refused here, at a cost of one pass over the bytes and with memory in proportion to
//! them: only change chunks and document chunks, never compressed; only bytes put at the root, under string
//! keys; no deletions, lists, marks, counters, messages or times; actors of eight bytes.
//!
//! The layout is that of <https://automerge.org/automerge-binary-format-spec/>.

use crate::format::DecodeError;

/// The largest change. One must fit a transaction.
pub(crate) const CHANGE_BYTES_MAX: usize = 64 * 1024;
/// The most operations in one change.
pub(crate) const CHANGE_OPS_MAX: usize = 1024;
/// The most changes that a change may follow directly: its writer's last one, and as many heads as there can
/// be writers at work.
pub(crate) const DEPS_MAX: usize = 1024;
/// The longest name of a field, in bytes.
pub(crate) const FIELD_NAME_BYTES_MAX: usize = 256;
/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most operations that a document may ever have had, and so the greatest operation number.
pub(crate) const DOCUMENT_OPS_MAX: usize = 1 << 20;

/// An operation's number and its writer.
pub(crate) type OpId = (u64, [u8; 8]);

/// What a change says that it does.
#[derive(Debug)]
pub(crate) struct ChangeOutline {
    pub(crate) deps: Vec<[u8; 32]>,
    pub(crate) actor: [u8; 8],
    pub(crate) seq: u64,
    pub(crate) start_op: u64,
    pub(crate) puts: Vec<PutOutline>,
}

/// One put of such a change.
#[derive(Debug)]
pub(crate) struct PutOutline {
    pub(crate) field: String,
    /// The operations that it replaces.
    pub(crate) replaces: Vec<OpId>,
}

/// How much a document holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DocumentOutline {
    pub(crate) changes: u32,
}

impl ChangeOutline {
    /// Looks through a change.
    pub(crate) fn parse(bytes: &[u8]) -> Result<ChangeOutline, DecodeError> {
        DecodeError::limit("change", bytes.len(), CHANGE_BYTES_MAX)?;
        let mut input = body(bytes, CHANGE_CHUNK)?;
        let deps = input.count("dependencies", DEPS_MAX)?;
        let deps = (0..deps)
            .map(|_| input.array())
            .collect::<Result<Vec<[u8; 32]>, _>>()?;
        let actor = input.actor()?;
        let (seq, start_op) = (input.unsigned()?, input.unsigned()?);
        let (time, message_bytes) = (input.signed()?, input.unsigned()?);
        if seq == 0 || start_op == 0 || time != 0 || message_bytes != 0 {
            return Err(malformed(
                "a number is zero that may not be, or a time or message is set",
            ));
        }
        let others = input.count("other actors", DEPS_MAX)?;
        let mut actors = vec![actor];
        for _ in 0..others {
            actors.push(input.actor()?);
        }
        let columns = input.columns()?;
        let puts = puts(&columns, &actors)?;
        DecodeError::limit(
            "operations",
            start_op.try_into().unwrap_or(usize::MAX),
            DOCUMENT_OPS_MAX,
        )?;
        if !input.0.is_empty() {
            return Err(malformed("bytes are left over"));
        }
        Ok(ChangeOutline {
            deps,
            actor,
            seq,
            start_op,
            puts,
        })
    }

    /// The number of its last operation.
    pub(crate) fn last_op(&self) -> u64 {
        self.start_op
            .saturating_add(self.puts.len() as u64)
            .saturating_sub(1)
    }
}

/// Reads the columns of a change's operations, all of them bounded by [`CHANGE_OPS_MAX`].
fn puts(columns: &[Column<'_>], actors: &[[u8; 8]]) -> Result<Vec<PutOutline>, DecodeError> {
    let of = |spec: u32| {
        columns
            .iter()
            .find(|column| column.spec == spec)
            .map_or(&[][..], |column| column.data)
    };
    only_these(
        columns,
        &[
            KEY_STRING,
            INSERT,
            ACTION,
            VALUE_META,
            VALUE,
            PRED_COUNT,
            PRED_ACTOR,
            PRED_COUNTER,
        ],
    )?;
    let mut fields = Vec::new();
    rows(of(KEY_STRING), CHANGE_OPS_MAX, Input::string, |name, count| {
        let name = name.ok_or_else(|| malformed("an operation has no field"))?;
        fields.extend(std::iter::repeat_n(name, count));
        Ok(())
    })?;
    let count = fields.len();
    if count == 0 {
        return Err(malformed("a change has no operations"));
    }
    check_puts(of(INSERT), of(ACTION), of(VALUE_META), of(VALUE), count)?;

    let mut pred_counts = Vec::with_capacity(count);
    rows(of(PRED_COUNT), count, Input::unsigned, |preds, repeated| {
        let preds = usize::try_from(preds.unwrap_or(0)).unwrap_or(usize::MAX);
        pred_counts.extend(std::iter::repeat_n(preds, repeated));
        Ok(())
    })?;
    let total = pred_counts
        .iter()
        .fold(0_usize, |sum, preds| sum.saturating_add(*preds));
    DecodeError::limit("operations replaced", total, CHANGE_OPS_MAX)?;
    let mut pred_actors = Vec::with_capacity(total);
    let mut used = vec![false; actors.len()];
    rows(of(PRED_ACTOR), total, Input::unsigned, |index, repeated| {
        let index = index
            .and_then(|index| usize::try_from(index).ok())
            .unwrap_or(usize::MAX);
        let actor = actors
            .get(index)
            .ok_or_else(|| malformed("an operation is of an unknown actor"))?;
        used[index] = true;
        pred_actors.extend(std::iter::repeat_n(*actor, repeated));
        Ok(())
    })?;
    if used.iter().skip(1).any(|used| !used) {
        return Err(malformed("an actor is named for nothing"));
    }
    let mut pred_counters = Vec::with_capacity(total);
    let mut counter = 0_i64;
    rows(of(PRED_COUNTER), total, Input::signed, |delta, repeated| {
        let delta = delta.ok_or_else(|| malformed("an operation has no number"))?;
        for _ in 0..repeated {
            counter = counter.saturating_add(delta);
            pred_counters.push(u64::try_from(counter).map_err(|_| malformed("an operation has no number"))?);
        }
        Ok(())
    })?;
    if pred_counts.len() != count || pred_actors.len() != total || pred_counters.len() != total {
        return Err(malformed("columns differ in length"));
    }
    let mut preds = pred_counters.into_iter().zip(pred_actors);
    let puts = fields
        .into_iter()
        .zip(pred_counts)
        .map(|(field, preds_of)| PutOutline {
            field: field.to_owned(),
            replaces: preds.by_ref().take(preds_of).collect(),
        });
    Ok(puts.collect())
}

impl DocumentOutline {
    /// Looks through a document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<DocumentOutline, DecodeError> {
        DecodeError::limit("document", bytes.len(), DOCUMENT_BYTES_MAX)?;
        let mut input = body(bytes, DOCUMENT_CHUNK)?;
        let actors = input.count("actors", bytes.len() / 9)?;
        for _ in 0..actors {
            input.actor()?;
        }
        let heads = input.count("heads", bytes.len() / 32)?;
        for _ in 0..heads {
            input.array::<32>()?;
        }
        let change_specs = input.column_specs()?;
        let op_specs = input.column_specs()?;
        let changes = input.column_data(change_specs)?;
        let ops = input.column_data(op_specs)?;
        // Then follow the positions of the heads, which Automerge checks.

        // Every operation puts at least one byte, and every change has an operation: there cannot be more
        // rows than bytes, whatever the columns say. What they replace or follow is only bounded as such.
        let rows_max = bytes.len().min(DOCUMENT_OPS_MAX);
        let of = |columns: &[Column<'_>], spec| count_rows(columns, spec, rows_max);
        let linked = |columns: &[Column<'_>], spec| count_rows(columns, spec, DOCUMENT_OPS_MAX);
        only_these(
            &changes,
            &[
                CHANGE_ACTOR,
                CHANGE_SEQ,
                CHANGE_OP_MAX,
                CHANGE_TIME,
                MESSAGE,
                DEPS_COUNT,
                DEPS_INDEX,
                EXTRA_META,
            ],
        )?;
        let change_count = of(&changes, CHANGE_ACTOR)?;
        for spec in [
            CHANGE_SEQ,
            CHANGE_OP_MAX,
            CHANGE_TIME,
            MESSAGE,
            DEPS_COUNT,
            EXTRA_META,
        ] {
            of(&changes, spec)?;
        }
        if linked(&changes, DEPS_INDEX)? != sum_rows(&changes, DEPS_COUNT)? {
            return Err(malformed("columns differ in length"));
        }
        let mut op_max = 0;
        let mut running = 0_i64;
        rows(
            data(&changes, CHANGE_OP_MAX),
            DOCUMENT_OPS_MAX,
            Input::signed,
            |delta, repeated| {
                let delta = delta.ok_or_else(|| malformed("a change has no last operation"))?;
                for _ in 0..repeated {
                    running = running.saturating_add(delta);
                    op_max = op_max
                        .max(u64::try_from(running).map_err(|_| malformed("an operation has no number"))?);
                }
                Ok(())
            },
        )?;
        DecodeError::limit(
            "operations",
            op_max.try_into().unwrap_or(usize::MAX),
            DOCUMENT_OPS_MAX,
        )?;

        only_these(
            &ops,
            &[
                KEY_STRING,
                ID_ACTOR,
                ID_COUNTER,
                INSERT,
                ACTION,
                VALUE_META,
                VALUE,
                SUCC_COUNT,
                SUCC_ACTOR,
                SUCC_COUNTER,
            ],
        )?;
        let op_count = of(&ops, KEY_STRING)?;
        for spec in [ID_ACTOR, ID_COUNTER, SUCC_COUNT] {
            if of(&ops, spec)? != op_count {
                return Err(malformed("columns differ in length"));
            }
        }
        let successors = sum_rows(&ops, SUCC_COUNT)?;
        for spec in [SUCC_ACTOR, SUCC_COUNTER] {
            if linked(&ops, spec)? != successors {
                return Err(malformed("columns differ in length"));
            }
        }
        check_puts(
            data(&ops, INSERT),
            data(&ops, ACTION),
            data(&ops, VALUE_META),
            data(&ops, VALUE),
            op_count,
        )?;
        Ok(DocumentOutline {
            changes: u32::try_from(change_count).unwrap_or(u32::MAX),
        })
    }
}

/// Every operation must be a put of some bytes, and the bytes must be there.
fn check_puts(
    insert: &[u8],
    action: &[u8],
    value_meta: &[u8],
    value: &[u8],
    count: usize,
) -> Result<(), DecodeError> {
    let mut input = Input(insert);
    let mut falses = 0_u64;
    while !input.0.is_empty() {
        falses = falses.saturating_add(input.unsigned()?);
        if !input.0.is_empty() {
            return Err(malformed("an operation inserts into a list"));
        }
    }
    let actions = rows(action, count, Input::unsigned, |action, _| match action {
        Some(PUT_ACTION) => Ok(()),
        _ => Err(malformed("an operation is not a put")),
    })?;
    let mut value_bytes = 0_u64;
    let values = rows(value_meta, count, Input::unsigned, |meta, repeated| match meta {
        Some(meta) if meta & 0xf == BYTES_TYPE && meta >> 4 > 0 => {
            value_bytes = value_bytes.saturating_add((meta >> 4).saturating_mul(repeated as u64));
            Ok(())
        }
        _ => Err(malformed("a value is not bytes, or is empty")),
    })?;
    if falses != count as u64 || actions != count || values != count || value_bytes != value.len() as u64 {
        return Err(malformed("columns differ in length"));
    }
    Ok(())
}

fn data<'a>(columns: &[Column<'a>], spec: u32) -> &'a [u8] {
    columns
        .iter()
        .find(|column| column.spec == spec)
        .map_or(&[], |column| column.data)
}

/// Refuses columns that none of our documents has, unless they are empty.
fn only_these(columns: &[Column<'_>], known: &[u32]) -> Result<(), DecodeError> {
    let mut strangers = columns
        .iter()
        .filter(|column| !known.contains(&column.spec) && !column.data.is_empty());
    if let Some(stranger) = strangers.next() {
        return Err(DecodeError::malformed(
            WHAT,
            &format_args!("column {:#x} is not used here", stranger.spec),
        ));
    }
    let doubled = columns
        .iter()
        .zip(columns.iter().skip(1))
        .any(|(left, right)| left.spec >= right.spec);
    if doubled {
        Err(malformed("columns are out of order"))
    } else {
        Ok(())
    }
}

/// How many rows a column of any run-length type has.
fn count_rows(columns: &[Column<'_>], spec: u32, max: usize) -> Result<usize, DecodeError> {
    let bytes = data(columns, spec);
    match spec & TYPE_MASK {
        STRING_TYPE => rows(bytes, max, Input::string, |_, _| Ok(())),
        DELTA_TYPE => rows(bytes, max, Input::signed, |_, _| Ok(())),
        _ => rows(bytes, max, Input::unsigned, |_, _| Ok(())),
    }
}

/// The sum of a column of counts.
fn sum_rows(columns: &[Column<'_>], spec: u32) -> Result<usize, DecodeError> {
    let mut sum = 0_u64;
    rows(
        data(columns, spec),
        DOCUMENT_OPS_MAX,
        Input::unsigned,
        |value, repeated| {
            sum = sum.saturating_add(value.unwrap_or(0).saturating_mul(repeated as u64));
            Ok(())
        },
    )?;
    let sum = usize::try_from(sum).unwrap_or(usize::MAX);
    DecodeError::limit("operations", sum, DOCUMENT_OPS_MAX).map(|()| sum)
}

/// Walks a run-length column: gives each value with how often it is repeated, and returns how many rows there
/// are. More than `max` are refused before anything is made of them.
fn rows<'a, T: Clone>(
    bytes: &'a [u8],
    max: usize,
    read: impl Fn(&mut Input<'a>) -> Result<T, DecodeError>,
    mut row: impl FnMut(Option<T>, usize) -> Result<(), DecodeError>,
) -> Result<usize, DecodeError> {
    let mut input = Input(bytes);
    let mut total = 0_usize;
    while !input.0.is_empty() {
        let run = input.signed()?;
        let size = match run {
            0 => input.unsigned()?,
            run => run.unsigned_abs(),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        total = total.saturating_add(size);
        DecodeError::limit("rows", total, max)?;
        match run {
            0 => row(None, size)?,
            1.. => row(Some(read(&mut input)?), size)?,
            _ => {
                for _ in 0..size {
                    row(Some(read(&mut input)?), 1)?;
                }
            }
        }
    }
    Ok(total)
}

struct Column<'a> {
    spec: u32,
    data: &'a [u8],
}

/// The chunk's contents, if it is one chunk of that type and nothing else. Automerge checks the checksum.
fn body(bytes: &[u8], chunk: u8) -> Result<Input<'_>, DecodeError> {
    let mut input = Input(bytes);
    if input.array()? != MAGIC {
        return Err(malformed("this is no Automerge chunk"));
    }
    let _checksum: [u8; 4] = input.array()?;
    let [kind] = input.array()?;
    if kind != chunk {
        return Err(DecodeError::UnknownFormat {
            what: "chunk",
            format: kind,
        });
    }
    let length = input.unsigned()?;
    if length != input.0.len() as u64 {
        return Err(malformed("the chunk's length is not its own"));
    }
    Ok(input)
}

/// What is still to be read of a chunk.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated(WHAT))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated(WHAT))?;
        self.0 = rest;
        Ok(*head)
    }

    /// LEB128, at most 64 bits.
    fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is longer than 64 bits"))
    }

    /// Signed LEB128; ours are far below 63 bits.
    fn signed(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0_i64;
        for shift in (0..63).step_by(7) {
            let [byte] = self.array()?;
            value |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let unused = 64 - (shift + 7);
                return Ok((value << unused) >> unused);
            }
        }
        Err(malformed("a number is longer than 63 bits"))
    }

    fn count(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
        DecodeError::limit(what, count, max).map(|()| count)
    }

    fn actor(&mut self) -> Result<[u8; 8], DecodeError> {
        if self.unsigned()? != 8 {
            return Err(malformed("an actor is not eight bytes"));
        }
        self.array()
    }

    fn string(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.count("field name", FIELD_NAME_BYTES_MAX)?;
        std::str::from_utf8(self.take(length)?).map_err(|error| DecodeError::malformed(WHAT, &error))
    }

    fn column_specs(&mut self) -> Result<Vec<(u32, usize)>, DecodeError> {
        let count = self.count("columns", COLUMNS_MAX)?;
        let mut specs = Vec::with_capacity(count);
        for _ in 0..count {
            let spec =
                u32::try_from(self.unsigned()?).map_err(|error| DecodeError::malformed(WHAT, &error))?;
            if spec & DEFLATE_BIT != 0 {
                return Err(malformed("a column is compressed"));
            }
            specs.push((spec, usize::try_from(self.unsigned()?).unwrap_or(usize::MAX)));
        }
        Ok(specs)
    }

    fn column_data(&mut self, specs: Vec<(u32, usize)>) -> Result<Vec<Column<'a>>, DecodeError> {
        specs
            .into_iter()
            .map(|(spec, length)| {
                Ok(Column {
                    spec,
                    data: self.take(length)?,
                })
            })
            .collect()
    }

    fn columns(&mut self) -> Result<Vec<Column<'a>>, DecodeError> {
        let specs = self.column_specs()?;
        self.column_data(specs)
    }
}

fn malformed(reason: &'static str) -> DecodeError {
    DecodeError::malformed(WHAT, &reason)
}

const WHAT: &str = "automerge chunk";
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const DOCUMENT_CHUNK: u8 = 0;
const CHANGE_CHUNK: u8 = 1;
const COLUMNS_MAX: usize = 32;

// A column's number is its id, a bit for compression, and its type.
const DEFLATE_BIT: u32 = 8;
const TYPE_MASK: u32 = 7;
const DELTA_TYPE: u32 = 3;
const STRING_TYPE: u32 = 5;

const KEY_STRING: u32 = 0x15;
const ID_ACTOR: u32 = 0x21;
const ID_COUNTER: u32 = 0x23;
const INSERT: u32 = 0x34;
const ACTION: u32 = 0x42;
const VALUE_META: u32 = 0x56;
const VALUE: u32 = 0x57;
const PRED_COUNT: u32 = 0x70;
const PRED_ACTOR: u32 = 0x71;
const PRED_COUNTER: u32 = 0x73;
const SUCC_COUNT: u32 = 0x80;
const SUCC_ACTOR: u32 = 0x81;
const SUCC_COUNTER: u32 = 0x83;

const CHANGE_ACTOR: u32 = 0x01;
const CHANGE_SEQ: u32 = 0x03;
const CHANGE_OP_MAX: u32 = 0x13;
const CHANGE_TIME: u32 = 0x23;
const MESSAGE: u32 = 0x35;
const DEPS_COUNT: u32 = 0x40;
const DEPS_INDEX: u32 = 0x43;
const EXTRA_META: u32 = 0x56;

const PUT_ACTION: u64 = 1;
const BYTES_TYPE: u64 = 7;
