// The drawing surface: image, labeling, scribbles and clicks, and the pen. Strokes are drawn here at once and sent
// when they end; what was sent is kept until it is on the disk, over lost connections, reloads and a server that dies.
const ZOOM = { least: 1, most: 40, step: 1.2 };
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

export default {
  template: `<canvas tabindex="0" style="width: 100%; height: 100%; display: block; touch-action: none; outline: none"
    @pointerdown="press" @pointermove="move" @pointerup="release" @pointercancel="release" @pointerleave="leave"
    @wheel.prevent="wheel" @contextmenu.prevent></canvas>`,
  props: {
    name: String, // of the image
    folder: String, // stands for the folder that the image is in
    width: Number,
    height: Number,
    image: String, // addresses of pictures
    scribbles: String,
    labeling: String,
    uncertainty: String, // empty where it is not shown
    learned: Number, // version of the annotation that the labeling's scores were learned from
    applied: Object, // by sender, the number of the last change that `scribbles` and `clicks` show
    clicks: Array, // [x, y, class]
    tags: Array, // classes
    colors: Array, // by class
    tool: String, // scribble, click, erase
    label: Number,
    pen: Number, // width in pixels of the image
    opacity: Number, // of the labeling
    drawn: Boolean, // whether scribbles and clicks are shown
  },
  created() {
    this.pictures = {}; // not reactive: they are drawn, not rendered
    this.asked = {};
    // A sender is one load of the page: it counts its changes, and the server takes each of them once.
    this.sender = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(16)).join("");
    this.number = 0;
    this.kept = this.recall();
    this.view = { zoom: 1, x: 0, y: 0 };
    this.chosen = { tool: this.tool, label: this.label };
  },
  mounted() {
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.$el);
    Object.keys(this.kept).forEach(this.keep); // without what is not repeated
    window.addEventListener("keydown", this.press_key);
    this.$nextTick(this.listen); // the socket is made after the elements
    this.open();
  },
  beforeUnmount() {
    this.observer.disconnect();
    window.removeEventListener("keydown", this.press_key);
    window.socket.off("connect", this.send_again);
    window.socket.off("disconnect", this.hold);
  },
  watch: {
    name: "open",
    image: "loadAll",
    scribbles: "loadAll",
    labeling: "loadAll",
    uncertainty: "loadAll",
    clicks: "draw",
    applied: "settle_shown",
    opacity: "draw",
    drawn: "draw",
    tool: "follow",
    label: "follow",
    pen: "draw",
  },
  methods: {
    // ---- images ----
    open(_, before) {
      this.view = { zoom: 1, x: 0, y: 0 };
      this.stroke = null;
      if (before) this.forget_saved(before);
      for (const change of this.pending()) change.shown = false;
      this.$el.dataset.pending = this.pending().length;
      this.loadAll();
    },
    loadAll() {
      for (const layer of ["image", "labeling", "uncertainty", "scribbles"]) this.load(layer);
    },
    load(layer) {
      const address = this[layer];
      if (this.asked[layer] === address) return;
      this.asked[layer] = address;
      if (!address || this.pictures[layer]?.name !== this.name) delete this.pictures[layer];
      if (!address) return this.draw();
      const [applied, learned] = [this.applied, this.learned];
      const [name, picture] = [this.name, new Image()];
      picture.onload = () => {
        if (this[layer] !== address) return; // a newer one is on its way
        this.pictures[layer] = { address, name, picture, learned };
        if (layer === "scribbles") this.settle(applied);
        this.draw();
      };
      picture.onerror = () => {
        if (this.asked[layer] === address) delete this.asked[layer];
      };
      picture.src = address;
    },

    // ---- changes, from being made here to being on the disk ----
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
    },
    hold() {
      this.connected = false; // what is drawn now must not arrive before what was lost with the connection
    },
    send(made) {
      const change = { name: this.name, id: `${this.sender}-${++this.number}`, ...made };
      (this.kept[this.name] ??= []).push(change);
      if (this.connected) this.$emit("drawn", change);
      this.keep(this.name);
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

    // ---- coordinates ----
    scale() {
      const { clientWidth, clientHeight } = this.$el;
      return Math.min(clientWidth / this.width, clientHeight / this.height) * this.view.zoom;
    },
    origin() {
      const scale = this.scale();
      return [
        (this.$el.clientWidth - this.width * scale) / 2 + this.view.x,
        (this.$el.clientHeight - this.height * scale) / 2 + this.view.y,
      ];
    },
    position(event) {
      const [left, top] = this.origin();
      const box = this.$el.getBoundingClientRect();
      return [(event.clientX - box.left - left) / this.scale(), (event.clientY - box.top - top) / this.scale()];
    },
    inside([x, y]) {
      return x >= 0 && y >= 0 && x < this.width && y < this.height;
    },
    clamped() {
      // The image cannot be pushed out of sight.
      const scale = this.scale();
      for (const [axis, size, room] of [
        ["x", this.width * scale, this.$el.clientWidth],
        ["y", this.height * scale, this.$el.clientHeight],
      ]) {
        const most = Math.max((size - room) / 2, 0) + (this.view.zoom > 1 ? 60 : 0);
        this.view[axis] = Math.min(Math.max(this.view[axis], -most), most);
      }
    },

    // ---- pointer ----
    follow() {
      this.chosen = { tool: this.tool, label: this.label };
      this.draw();
    },
    press(event) {
      this.$el.focus();
      this.$el.setPointerCapture(event.pointerId);
      const at = this.position(event);
      if (event.button !== 0 || event.shiftKey) this.panning = [event.clientX, event.clientY];
      else if (this.chosen.tool === "click") {
        if (this.inside(at)) this.send({ x: at[0], y: at[1], label: this.chosen.label });
      } else {
        const label = this.chosen.tool === "erase" ? 255 : this.chosen.label;
        this.stroke = { points: [at], width: this.pen, label };
      }
      this.draw();
    },
    move(event) {
      this.pointer = this.position(event);
      if (this.panning) {
        this.view.x += event.clientX - this.panning[0];
        this.view.y += event.clientY - this.panning[1];
        this.panning = [event.clientX, event.clientY];
        this.clamped();
      } else if (this.stroke) {
        const events = event.getCoalescedEvents?.() || [];
        for (const each of events.length ? events : [event]) this.extend(this.position(each));
      }
      this.draw();
    },
    extend(at) {
      const last = this.stroke.points.at(-1);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) * this.scale() >= 1.5) this.stroke.points.push(at);
    },
    release() {
      this.panning = null;
      if (this.stroke) {
        const stroke = this.stroke;
        this.stroke = null;
        stroke.points = stroke.points.map((point) => point.map((value) => Math.round(value * 100) / 100));
        this.send(stroke);
      }
      this.draw();
    },
    leave() {
      this.pointer = null;
      this.draw();
    },
    wheel(event) {
      const before = this.position(event);
      const zoom = this.view.zoom * (event.deltaY < 0 ? ZOOM.step : 1 / ZOOM.step);
      this.view.zoom = Math.min(Math.max(zoom, ZOOM.least), ZOOM.most);
      const after = this.position(event);
      this.view.x += (after[0] - before[0]) * this.scale();
      this.view.y += (after[1] - before[1]) * this.scale();
      this.clamped();
      this.draw();
    },
    fit() {
      this.view = { zoom: 1, x: 0, y: 0 };
      this.draw();
    },

    // ---- keys ----
    press_key(event) {
      if (event.target.closest("input, textarea, select, [contenteditable]")) return;
      const command = event.ctrlKey || event.metaKey;
      const plain = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
      let name = null;
      if (command && !event.altKey) name = { z: event.shiftKey ? "redo" : "undo", y: "redo", s: "save" }[plain];
      else if (event.altKey) return;
      else if (digit) name = (event.shiftKey ? "tag " : "class ") + digit;
      else if (plain === "f") return this.fit();
      else if (plain === "Enter") name = event.target.closest("button, .q-toggle, .q-slider") ? null : "accept";
      else
        name = { ArrowRight: "next", ArrowLeft: "previous", d: "next", a: "previous", s: "scribble", c: "click",
          e: "erase", n: "need", u: "uncertainty", "[": "thinner", "]": "thicker", "-": "thinner", "+": "thicker", " ": "labeling", h: "hide" }[plain];
      if (!name) return;
      event.preventDefault();
      if (name === "undo" || name === "redo") return this.step(name);
      if (name.startsWith("tag ")) return this.toggle_tag(Number(digit) - 1);
      // At once: who presses a key and draws does not wait for the server.
      const index = Number(digit) - 1;
      if (["scribble", "click", "erase"].includes(name)) this.chosen.tool = name;
      else if (name.startsWith("class ") && index < this.colors.length) {
        this.chosen.label = index;
        if (this.chosen.tool === "erase") this.chosen.tool = "scribble";
      }
      this.draw();
      this.command(name);
    },

    // ---- drawing ----
    draw() {
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.paint();
      });
    },
    paint() {
      const canvas = this.$el;
      const ratio = window.devicePixelRatio || 1;
      const [wide, high] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
      if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
      const pen = canvas.getContext("2d");
      const scale = this.scale();
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, wide, high);
      const [left, top] = this.origin();
      pen.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
      this.layer(pen, "image", 1, scale < 3);
      this.layer(pen, "labeling", this.opacity, true);
      this.layer(pen, "uncertainty", 0.6, true);
      if (this.drawn) {
        this.layer(pen, "scribbles", 1, scale < 3);
        const waiting = this.waiting();
        for (const stroke of [...waiting, this.stroke]) if (stroke?.points) this.line(pen, stroke);
        const spots = waiting.filter((change) => "x" in change).map((change) => [change.x, change.y, change.label]);
        for (const click of [...this.clicks, ...spots]) this.spot(pen, click, scale);
      }
      if (this.pointer && !this.panning && this.chosen.tool !== "click") this.ring(pen, this.pointer, scale);
      const shown = Object.keys(this.pictures).filter((layer) => this.pictures[layer].address === this[layer]);
      canvas.dataset.shown = shown.sort().join(" ");
      canvas.dataset.learned = this.pictures.labeling?.learned ?? "";
    },
    layer(pen, name, opacity, smooth) {
      const found = this.pictures[name];
      if (!found || !opacity) return;
      pen.globalAlpha = opacity;
      pen.imageSmoothingEnabled = smooth;
      pen.drawImage(found.picture, 0, 0, this.width, this.height);
      pen.globalAlpha = 1;
    },
    line(pen, { points, width, label }) {
      pen.lineWidth = width;
      pen.lineCap = pen.lineJoin = "round";
      pen.strokeStyle = label === 255 ? "rgba(255, 255, 255, 0.6)" : this.colors[label];
      pen.beginPath();
      pen.moveTo(...points[0]);
      for (const point of points.length > 1 ? points.slice(1) : points) pen.lineTo(...point);
      pen.stroke();
    },
    spot(pen, [x, y, label], scale) {
      pen.beginPath();
      pen.arc(x, y, 6 / scale, 0, 2 * Math.PI);
      pen.fillStyle = this.colors[label];
      pen.fill();
      pen.lineWidth = 2.5 / scale;
      pen.strokeStyle = "white";
      pen.stroke();
      pen.lineWidth = 1 / scale;
      pen.strokeStyle = "black";
      pen.beginPath();
      pen.arc(x, y, 7.5 / scale, 0, 2 * Math.PI);
      pen.stroke();
    },
    ring(pen, [x, y], scale) {
      for (const [color, wider] of [["black", 1], ["white", 0]]) {
        pen.beginPath();
        pen.arc(x, y, this.pen / 2 + wider / scale, 0, 2 * Math.PI);
        pen.lineWidth = 1 / scale;
        pen.strokeStyle = color;
        pen.stroke();
      }
    },
  },
};
