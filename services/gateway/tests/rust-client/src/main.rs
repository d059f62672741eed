//! `rust_socketio` against a gateway: two clients meet in a room, over each transport. The argument is the gateway's address.

use std::{
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use rust_socketio::{ClientBuilder, Payload, TransportType, client::Client};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

fn main() {
    let url = std::env::args().nth(1).expect("the address of a gateway");
    for (name, transport) in [
        ("polling", TransportType::Polling),
        ("websocket", TransportType::Websocket),
        ("upgrade", TransportType::WebsocketUpgrade),
        ("any", TransportType::Any),
    ] {
        meet(&url, name, transport);
        println!("{name}: ok");
    }
}

fn meet(url: &str, room: &str, transport: TransportType) {
    let connect = |sender: mpsc::Sender<Value>| {
        let (opened, open) = mpsc::channel();
        let client = ClientBuilder::new(url)
            .transport_type(transport.clone())
            .on("open", move |_, _| {
                let _ = opened.send(());
            })
            .on("message", move |payload, _| {
                let _ = sender.send(values(&payload));
            })
            .connect()
            .expect("it connects");
        open.recv_timeout(DEADLINE).expect("the namespace is open");
        client
    };
    let (sender, received) = mpsc::channel();
    let (one, other) = (connect(sender.clone()), connect(sender));
    assert_eq!(
        ask(&one, "join", json!([room])).recv_timeout(DEADLINE).expect("an ack")["members"],
        json!([])
    );
    let joined = ask(&other, "join", json!([room])).recv_timeout(DEADLINE).expect("an ack");
    assert_eq!(joined["members"].as_array().map(Vec::len), Some(1), "{joined}");
    other.emit("message", vec![json!(room), json!({"text": "é"})]).expect("it is sent");
    let message = received.recv_timeout(DEADLINE).expect("a message");
    assert_eq!(message["text"], "é", "{message}");
    one.disconnect().expect("it closes");
    other.disconnect().expect("it closes");
}

/// Emits an event, and gives back where its answer comes.
fn ask(client: &Client, event: &str, args: Value) -> Receiver<Value> {
    let (sender, answer) = mpsc::channel();
    let Value::Array(args) = args else { panic!("arguments are a list") };
    let answered = move |payload: Payload, _| {
        let _ = sender.send(values(&payload));
    };
    client.emit_with_ack(event, args, DEADLINE, answered).expect("it is sent");
    answer
}

/// The first value of a payload; acks come as a list in a list.
fn values(payload: &Payload) -> Value {
    let Payload::Text(values) = payload else { panic!("it is text: {payload:?}") };
    match values.first() {
        Some(Value::Array(inner)) => inner.first().cloned().unwrap_or_default(),
        first => first.cloned().unwrap_or_default(),
    }
}
