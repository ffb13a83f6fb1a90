//! What a name of a query stands for.

use arrow::datatypes::DataType;

use super::scope::{Code, Item};
use super::workspace::{Column, Workspace};

/// The item whose column a chain names (`t.a`, `a['b']`), the column, and the fields inside it.
pub(super) async fn resolve(
    workspace: &Workspace,
    code: &Code<'_>,
    offset: usize,
    chain: &[String],
) -> Option<(Item, Column, Vec<String>)> {
    let (first, rest) = chain.split_first()?;
    for items in code.items_at(offset) {
        let of_alias = items.iter().find(|item| item.alias == *first);
        if let (Some(item), Some((name, path))) = (of_alias, rest.split_first()) {
            let columns = workspace.columns(item).await;
            if let Some(column) = named(columns, name) {
                return Some((item.clone(), column, path.to_vec()));
            }
        }
        for item in items {
            let columns = workspace.columns(&item).await;
            if let Some(column) = named(columns, first) {
                return Some((item, column, rest.to_vec()));
            }
        }
    }
    None
}

fn named(columns: Vec<Column>, name: &str) -> Option<Column> {
    columns.into_iter().find(|it| it.column.name == name)
}

/// The type of a field inside a type. An empty name is an item of a list.
pub(super) fn field_type(data_type: &DataType, path: &[String]) -> Option<DataType> {
    let Some((name, rest)) = path.split_first() else {
        return Some(data_type.clone());
    };
    match data_type {
        DataType::Struct(fields) => field_type(fields.find(name)?.1.data_type(), rest),
        DataType::List(item) if name.is_empty() => field_type(item.data_type(), rest),
        DataType::Map(_, _) => Some(DataType::Utf8).filter(|_| rest.is_empty()),
        _ => None,
    }
}
