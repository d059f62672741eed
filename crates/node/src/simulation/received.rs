//! What clients make of what they receive.

use std::{collections::BTreeSet, time::Duration};

use signalbox_cluster::Address;

use super::{
    client::{Asked, ClientAction},
    event::Event,
    world::{ClientId, World},
};

/// How long a client takes to answer a question.
const THINKING: Duration = Duration::from_millis(300);

impl World {
    /// An Engine.IO packet has arrived.
    pub(super) fn receive(&mut self, client: ClientId, packet: &str) {
        self.trace(|| format!("client {client} receives {packet}"));
        match packet.split_at_checked(1) {
            Some(("1", _)) => self.close(client, "closed by the server"),
            Some(("2", _)) => self.emit(client, "3".to_owned()),
            Some(("4", message)) => self.receive_message(client, message),
            _ => {}
        }
    }

    fn receive_message(&mut self, client: ClientId, message: &str) {
        if let Some(body) = message.strip_prefix('2') {
            self.receive_event(client, body);
        } else if let Some(body) = message.strip_prefix('3') {
            let (ack, body) = body.split_once('[').unwrap_or_default();
            let answer: serde_json::Value = serde_json::from_str(&format!("[{body}")).expect("JSON");
            self.receive_ack(client, ack.parse().expect("a number"), &answer[0]);
        } else if let Some(body) = message.strip_prefix('0') {
            let connected: serde_json::Value = serde_json::from_str(body).expect("JSON");
            self.clients[client].socket = connected["sid"].as_str().and_then(Address::parse);
            for room in self.clients[client].joins.clone() {
                self.join(client, room);
            }
        } else {
            panic!("client {client}: unexpected {message}");
        }
    }

    fn receive_ack(&mut self, client: ClientId, ack: u64, answer: &serde_json::Value) {
        let state = &mut self.clients[client];
        let asked = state.asked.remove(&ack);
        assert_eq!(answer["ok"], true, "client {client}: {asked:?} is refused: {answer}");
        match asked {
            Some(Asked::Join(room)) => {
                let members = answer["members"].as_array().expect("members");
                let members = members.iter().filter_map(|member| Address::parse(member["id"].as_str()?));
                let members: BTreeSet<Address> = members.collect();
                match state.rooms.get(room) {
                    // It was a member, so it was told of every change.
                    Some(known) => assert_eq!(*known, members, "client {client}: the members of {room}"),
                    None => drop(state.rooms.insert(room, members)),
                }
            }
            Some(Asked::Leave(room)) => drop(state.rooms.remove(room)),
            None => panic!("client {client}: ack {ack} has come twice"),
        }
    }

    fn receive_event(&mut self, client: ClientId, body: &str) {
        if let Some(rest) = body.strip_prefix("[\"message\",\"").or(body.strip_prefix("[\"all\",\"")) {
            let (source, number) =
                rest.split_once('"').and_then(|(data, _)| data.split_once(':')).expect("data");
            let number = number.parse().expect("a number");
            let state = &mut self.clients[client];
            let received = match state.received.get_mut(source) {
                Some(received) => received,
                None => state.received.entry(source.to_owned()).or_default(),
            };
            let last = received.last().copied();
            assert!(
                last.is_none_or(|last| last < number),
                "client {client}: {source}:{number} has come behind {last:?}"
            );
            received.push(number);
            return;
        }
        if let Some(number) = body.strip_prefix("[\"order\",").and_then(|rest| rest.strip_suffix(']')) {
            *self.clients[client].orders.entry(number.parse().expect("a number")).or_default() += 1;
            return;
        }
        if let Some((id, "ask\"]")) = body.split_once("[\"") {
            // By then its session has moved, unless something goes wrong.
            let action = ClientAction::Answer(id.parse().expect("a number"));
            self.schedule_in(THINKING, Event::ClientActs(client, action));
            return;
        }
        let event: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let (name, member) = (event[0].as_str().unwrap_or_default(), &event[1]);
        let room = super::ROOMS.into_iter().find(|room| member["room"] == *room).expect("a room");
        let id = member["id"].as_str().and_then(Address::parse).expect("an id");
        self.member_changed(client, name, room, id);
    }

    fn member_changed(&mut self, client: ClientId, name: &str, room: &'static str, id: Address) {
        // Of a room it has left, what was on its way still arrives.
        let state = &mut self.clients[client];
        let Some(view) = state.rooms.get_mut(room) else { return };
        let is_news = match name {
            "joined" => view.insert(id),
            "left" => view.remove(&id),
            "updated" => view.contains(&id),
            _ => panic!("client {client}: unexpected {name}"),
        };
        match name {
            "left" => drop(state.gone.insert(id)),
            "joined" if state.gone.contains(&id) => state.returned.push(id),
            _ => {}
        }
        assert!(is_news, "client {client}: {name}({id}) in {room} is no news");
    }
}
