'use strict'

let isReady = false
let isFirst = false
let isUnderWay = false
let stream
let connection

const room = prompt('Name of the room:')
const socket = io.connect()

if (room !== '') socket.emit('create or join', room)

socket.on('created', () => { isFirst = true })
socket.on('full', name => { document.title = `${name} is full` })
socket.on('join', () => { isReady = true })
socket.on('joined', () => { isReady = true })

const send = message => socket.emit('message', message)

socket.on('message', message => {
  if (message === 'got user media') {
    begin()
  } else if (message.type === 'offer') {
    if (!isFirst && !isUnderWay) begin()
    connection.setRemoteDescription(message)
    connection.createAnswer().then(describe)
  } else if (message.type === 'answer' && isUnderWay) {
    connection.setRemoteDescription(message)
  } else if (message.type === 'candidate' && isUnderWay) {
    connection.addIceCandidate({ sdpMLineIndex: message.label, candidate: message.candidate })
  } else if (message === 'bye' && isUnderWay) {
    connection.close()
    connection = null
    isUnderWay = false
    isFirst = true
    document.querySelector('#remote').srcObject = null
  }
})

navigator.mediaDevices.getUserMedia({ audio: false, video: true }).then(own => {
  stream = own
  document.querySelector('#local').srcObject = own
  send('got user media')
  if (isFirst) begin()
})

function begin() {
  if (isUnderWay || !stream || !isReady) return
  connection = new RTCPeerConnection(null)
  connection.onicecandidate = event => {
    if (event.candidate) {
      send({ type: 'candidate', label: event.candidate.sdpMLineIndex, id: event.candidate.sdpMid, candidate: event.candidate.candidate })
    }
  }
  connection.ontrack = event => { document.querySelector('#remote').srcObject = event.streams[0] }
  for (const track of stream.getTracks()) connection.addTrack(track, stream)
  isUnderWay = true
  if (isFirst) connection.createOffer().then(describe)
}

function describe(description) {
  connection.setLocalDescription(description)
  send(description)
}

window.onbeforeunload = () => send('bye')
