// SPDX-License-Identifier: Apache-2.0
// A trajectory as an SVG picture: the controlled value of several controllers on one patient with
// its target above, their actions below. Steps are reduced to a minimum and a maximum per pixel
// column, so that a peak is never lost.

#include "engine/engine.h"
#include "engine/picture.h"

#include <math.h>

enum { WIDTH = 960, LEFT = 64, RIGHT = 940, TOP = 40, MIDDLE = 300, BELOW = 340, BOTTOM = 470 };

static const char *const colours[] = {"#0b6e4f", "#c8553d", "#3d5a80", "#8f6bb1"};

typedef struct panel {
  int signal;
  double low, high; // of the axis
  int top, bottom;  // pixels
} panel;


static double row_of(const panel *p, double value) {
  const double share = (value - p->low) / (p->high - p->low);
  return p->bottom - share * (p->bottom - p->top);
}


static void axis(FILE *out, const panel *p, const char *name, const char *unit) {
  for (int i = 0; i <= 4; i++) {
    const double value = p->low + (p->high - p->low) * i / 4.0, y = row_of(p, value);
    fprintf(out,
            "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>"
            "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
            LEFT, RIGHT, y, y, LEFT - 6, y + 4, value);
  }
  fprintf(out, "<text x=\"%d\" y=\"%d\">%s [%s]</text>\n", LEFT, p->top - 8, name, unit);
}


// a line through the minimum and maximum of each pixel column
static void curve(FILE *out, const panel *p, const rgm_picture *g, const float *signals, int signal,
                  const char *style) {
  const int columns = RIGHT - LEFT;
  fprintf(out, "<polyline fill=\"none\" %s points=\"", style);
  for (int x = 0; x < columns; x++) {
    const int64_t begin = g->steps * x / columns, end = g->steps * (x + 1) / columns;
    double low = INFINITY, high = -INFINITY;
    for (int64_t t = begin; t < end; t++) {
      const double value = (double)signals[t * g->env->signal_dim + signal];
      low = fmin(low, value);
      high = fmax(high, value);
    }
    if (low <= high) {
      fprintf(out, "%d,%.1f ", LEFT + x, row_of(p, low));
      if (high > low) {
        fprintf(out, "%d,%.1f ", LEFT + x, row_of(p, high));
      }
    }
  }
  fprintf(out, "\"/>\n");
}


// makes the axis reach over all values of a signal; -1: there is none
static void stretch(panel *p, const rgm_picture *g, int signal) {
  for (int i = 0; i < g->count && signal >= 0; i++) {
    for (int64_t t = 0; t < g->steps; t++) {
      const double value = (double)g->signals[i][t * g->env->signal_dim + signal];
      p->low = fmin(p->low, value);
      p->high = fmax(p->high, value);
    }
  }
}


void rgm_picture_write(const rgm_picture *g, FILE *out) {
  const rgm_env *env = g->env;
  panel value = {env->plot_value, 0.0, 1.0, TOP, MIDDLE};
  panel action = {env->plot_action, 0.0, 0.0, BELOW, BOTTOM};
  char style[96];
  stretch(&value, g, env->plot_value);
  stretch(&value, g, env->plot_target);
  stretch(&action, g, env->plot_action);
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d 510\" width=\"%d\" "
          "font-family=\"sans-serif\" font-size=\"12\">\n"
          "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
          WIDTH, WIDTH);
  axis(out, &value, env->signals[value.signal].doc, env->signals[value.signal].unit);
  axis(out, &action, env->signals[action.signal].doc, env->signals[action.signal].unit);

  // time axis in whole minutes
  const double minutes = (double)g->steps * env->step_min;
  const double mark = minutes > 40 ? 20.0 : minutes > 8 ? 5.0 : 1.0;
  for (double m = 0.0; m <= minutes; m += mark) {
    fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
            LEFT + (RIGHT - LEFT) * m / minutes, BOTTOM + 16, m);
  }
  fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">minutes</text>\n",
          (LEFT + RIGHT) / 2, BOTTOM + 32);

  // the last controller first, so that the first lies on top
  for (int i = g->count - 1; i >= 0; i--) {
    const char *colour = colours[i % (int)(sizeof colours / sizeof *colours)];
    snprintf(style, sizeof style, "stroke=\"%s\" stroke-width=\"1.3\"", colour);
    curve(out, &value, g, g->signals[i], value.signal, style);
    snprintf(style, sizeof style, "stroke=\"%s\" stroke-width=\"0.8\"", colour);
    curve(out, &action, g, g->signals[i], action.signal, style);
    fprintf(out, "<text x=\"%d\" y=\"22\" fill=\"%s\" text-anchor=\"end\">%s</text>\n",
            RIGHT - 190 * i, colour, g->names[i]);
  }
  if (env->plot_target >= 0) {
    curve(out, &value, g, g->signals[0], env->plot_target,
          "stroke=\"#222\" stroke-width=\"1\" stroke-dasharray=\"5 3\"");
  }
  fprintf(out, "</svg>\n");
}
