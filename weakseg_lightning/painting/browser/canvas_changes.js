// Changes, from being made to being on the disk: sent at once, kept until they are there, and sent again after a lost
// connection, a reload or the end of the server. Methods of the canvas.
const ABOUT_WHAT_IS_DRAWN = new Set(["accept", "need", "next", "previous", "save"]);

const has = (numbers, change) => {
  const [sender, number] = change.id.split("-");
  return numbers[sender] >= Number(number);
};

// Of what may be sent to a server without history: undo and redo only where they act on what comes before them.
const repeatable = (changes) => {
  let [done, undone] = [0, 0];
  return changes.filter(({ step }) => {
    const [back, forth] = [step === "undo", step === "redo"];
    if ((back && !done) || (forth && !undone)) return false;
    done += back ? -1 : 1;
    undone = back ? undone + 1 : forth ? undone - 1 : 0;
    return true;
  });
};

const warn = (message) => Quasar.Notify.create({ type: "warning", message });

export const changes = {
  pending() {
    return this.kept[this.name] || [];
  },
  listen() {
    window.socket.on("connect", this.send_again);
    window.socket.on("disconnect", this.hold);
    if (window.socket.connected) this.send_again();
  },
  send_again() {
    if (!window.did_handshake) return setTimeout(this.send_again, 10);
    this.connected = true;
    for (const change of Object.values(this.kept).flat()) this.$emit("drawn", change);
    this.loadAll(); // of what failed with the connection
  },
  hold() {
    this.connected = false; // what is drawn now must not arrive before what was lost with the connection
  },
  send(made, name = this.name) {
    const change = { name, id: `${this.sender}-${++this.number}`, ...made };
    (this.kept[name] ??= []).push(change);
    if (this.connected) this.$emit("drawn", change);
    this.keep(name);
  },
  step(kind) {
    if (this.name) this.send({ step: kind });
    this.draw();
  },
  toggle_tag(label) {
    if (!this.name || label >= this.colors.length) return;
    const last = this.waiting().findLast((change) => "tag" in change && change.label === label);
    // The wanted state, not the toggling: it may be sent again to a server that has it on its disk.
    this.send({ label, tag: !(last ? last.tag : this.tags.includes(label)) });
  },
  command(name) {
    // The socket would send it before the strokes, which wait until the page is known to the server again.
    if (ABOUT_WHAT_IS_DRAWN.has(name) && !this.connected)
      warn("The connection is lost: try again when it is back");
    else this.$emit("command", { command: name, name: this.name });
  },
  settle_shown() {
    if (this.pictures.scribbles?.address === this.scribbles) this.settle(this.applied);
  },
  settle(applied) {
    for (const change of this.pending()) change.shown ||= has(applied, change);
    this.forget_saved(this.name);
  },
  confirm(name, saved) {
    for (const change of this.kept[name] || []) change.saved ||= has(saved, change);
    this.forget_saved(name);
  },
  forget_saved(name) {
    // Of the image that is open they are drawn here until the picture with them has come.
    const needed = (change) => !change.saved || (name === this.name && !change.shown);
    this.kept[name] = (this.kept[name] || []).filter(needed);
    this.keep(name);
  },
  recall() {
    const [kept, start] = [{}, this.key_of_storage("")];
    try {
      for (const key of Object.keys(sessionStorage).filter((each) => each.startsWith(start))) {
        const [name, changes] = [key.slice(start.length), JSON.parse(sessionStorage[key])];
        const unsaved = changes.filter((change) => !change.saved);
        kept[name] = repeatable(unsaved);
        if (kept[name].length < unsaved.length)
          warn(`The last undo of ${name} could not be repeated: see whether it was made`);
      }
    } catch {
      // a browser that keeps nothing
    }
    return kept;
  },
  keep(name) {
    const [key, changes] = [this.key_of_storage(name), this.kept[name]];
    if (name === this.name) this.$el.dataset.pending = changes.length;
    try {
      if (changes.length) sessionStorage.setItem(key, JSON.stringify(changes));
      else sessionStorage.removeItem(key);
    } catch {
      // full, or forbidden: they are kept in this page alone
    }
  },
  key_of_storage(name) {
    return `weakseg paint ${this.folder} ${name}`;
  },
  waiting() {
    const made = []; // what the server's picture does not show yet, but for what was taken back
    for (const change of this.pending().filter((each) => !each.shown))
      if (change.step === "undo") made.pop();
      else if (change.step !== "redo") made.push(change);
    const cleared = made.findLastIndex((change) => change.step === "clear");
    return made.filter((change, place) => place > cleared || "tag" in change);
  },
};
