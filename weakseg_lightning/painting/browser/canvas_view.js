// What is seen: where points of the image are on the canvas, and the painting of it. Methods of the canvas.
export const view = {
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
};
