//! Operations in Redis are what the model says.

use proptest::prelude::*;
use signalbox_cluster::operations::{MAX_OPERATIONS, OperationTable, StoredOperation, Written};

use super::{
    node::Node,
    server::{Server, until},
};
use crate::operations::StoreAway;

fn operations() -> impl Strategy<Value = Vec<StoredOperation>> {
    let text =
        prop_oneof![Just(String::new()), Just("a\nb 1 2".to_owned()), Just("{\"é\":\"\\u0000\"}".to_owned())];
    let one = ("[a-d]", 0_u64..4, any::<bool>(), 0_u64..9, "[x-z] ?[x-z]?", text);
    let operation = one.prop_map(|(id, version, is_over, began, subject, text)| StoredOperation {
        id,
        version,
        is_over,
        began,
        subject,
        text,
    });
    prop::collection::vec(operation, 1..40)
}

fn sorted(mut operations: Vec<StoredOperation>) -> Vec<StoredOperation> {
    operations.sort_by(|one, other| one.id.cmp(&other.id));
    operations
}

#[test]
fn operations_in_redis_are_those_of_the_model() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys = ["operations", "operations-over"]
        .map(|what| String::from_utf8(crate::Keys::new("test").nodes(what).to_vec()).unwrap());
    let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
    proptest!(config, |(steps in operations())| {
        runtime.block_on(async {
            server.ask(&format!("DEL {}", keys.join(" ")));
            let mut model = OperationTable::default();
            for step in steps {
                prop_assert_eq!(node.operations.write(step.clone()).await, Ok(model.write(step)));
            }
            prop_assert_eq!(sorted(node.operations.read(true).await.unwrap()), sorted(model.running()));
            prop_assert_eq!(sorted(node.operations.read(false).await.unwrap()), sorted(model.all()));
            Ok(())
        })?;
    });
}

#[test]
fn as_many_operations_are_kept_as_may_be_and_an_outage_is_told() {
    let mut server = Server::start();
    let node = Node::start(&server, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut model = OperationTable::default();
    let step = |number: usize, is_over: bool| StoredOperation {
        id: format!("{number}{is_over}"),
        version: 0,
        is_over,
        began: number as u64 / 2,
        subject: number.to_string(),
        text: "x".repeat(1_000),
    };
    let steps = (0..MAX_OPERATIONS + 3).flat_map(|number| [step(number, true), step(number, false)]);
    let mut last = None;
    for step in steps {
        let written = runtime.block_on(node.operations.write(step.clone()));
        assert_eq!(written, Ok(model.write(step)));
        last = Some(written);
    }
    assert_eq!(last, Some(Ok(Written::Full)));
    let all = runtime.block_on(node.operations.read(false)).unwrap();
    assert_eq!(sorted(all), sorted(model.all()));
    server.stop();
    until(|| (runtime.block_on(node.operations.read(true)) == Err(StoreAway)).then_some(()));
}

#[test]
fn what_nobody_can_read_or_goes_on_with_is_in_nobodys_way() {
    let server = Server::start();
    let node = Node::start(&server, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [running, over] = ["operations", "operations-over"]
        .map(|what| String::from_utf8(crate::Keys::new("test").nodes(what).to_vec()).unwrap());
    server.ask(&format!("HSET {running} garbage nonsense \"\" \"\" long \"1 2 99999999999999999999 x\\n\""));
    // One was written in 1970, the other one will be.
    server.ask(&format!(r#"HSET {running} old "1 5 6 rebalance\n{{}}" new "1 5 99999999999 drain\n\xff""#));
    server.ask(&format!(r#"HSET {over} garbage nonsense bytes "\xff\xfe""#));
    let write = |id: &str, subject: &str, is_over| {
        let (id, subject, text) = (id.to_owned(), subject.to_owned(), String::new());
        runtime.block_on(node.operations.write(StoredOperation {
            id,
            version: 0,
            is_over,
            began: 7,
            subject,
            text,
        }))
    };
    let known = |only_running| {
        let known = runtime.block_on(node.operations.read(only_running)).unwrap();
        sorted(known).into_iter().map(|known| known.id).collect::<Vec<_>>()
    };
    assert_eq!(known(false), ["old"]);
    assert_eq!(write("a", "rebalance", false), Ok(Written::Stored(1)));
    assert_eq!(write("b", "drain", false), Ok(Written::Busy("new".to_owned())));
    assert_eq!(write("c", "x", true), Ok(Written::Stored(1)));
    assert_eq!((known(true), known(false)), (vec!["a".to_owned()], vec!["a".to_owned(), "c".to_owned()]));
    server.ask(&format!("SET {running} text"));
    assert_eq!(write("d", "y", false), Err(StoreAway));
    assert_eq!(runtime.block_on(node.operations.read(true)), Err(StoreAway));
}
