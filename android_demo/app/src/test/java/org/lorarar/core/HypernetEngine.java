package org.lorarar.core;

import java.io.File;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;

/** An engine that runs an exported hypernetwork's graphs in plain loops. */
final class HypernetEngine implements Engine {
    private final File folder; // with its manifest and its weights
    private final Map<String, float[]> read = new HashMap<>();

    HypernetEngine(File folder) {
        this.folder = folder;
    }

    @Override
    public Program open(File file) throws LorararException {
        final String manifest = Files.text(new File(folder, "merger.json"));
        return new Program() {
            @Override
            public Tensor[] run(String method, Tensor... inputs) throws LorararException {
                try {
                    return new Tensor[] {graph(method, inputs)};
                } catch (IOException error) {
                    throw new LorararException("no weights", error);
                }
            }

            @Override
            public String text(String method) {
                return manifest;
            }

            @Override
            public void close() {
            }
        };
    }

    private float[] weights(String name) throws IOException {
        if (!read.containsKey(name)) {
            read.put(name, DrawingVectors.floats(new File(folder, name + ".f32")));
        }
        return read.get(name);
    }

    /** m = W_out @ relu(h_c + h_s + b) + b_out. */
    private Tensor graph(String method, Tensor[] inputs) throws IOException {
        String form = method.substring(0, method.indexOf('_'));
        int width = Integer.parseInt(method.substring(form.length() + 1));
        int index = 1; // weights are numbered by width
        while (weights("input_" + index + ".weight").length != 2 * width
                * weights("input_" + index + ".bias").length) {
            index++;
        }
        float[] weight = weights("input_" + index + ".weight");
        float[] bias = weights("input_" + index + ".bias");
        float[] outWeight = weights("output.1.weight");
        float[] outBias = weights("output.1.bias");
        int hidden = bias.length;
        int in = (int) inputs[inputs.length - 1].shape[1];
        double[] sum = new double[hidden * in];
        for (int side = 0; side < 2; side++) {
            Tensor first = inputs[side * inputs.length / 2];
            float[] feature = first.floats;
            int rank = (int) first.shape[1];
            if (form.equals("factored")) {
                float[] half = new float[hidden * width];
                for (int row = 0; row < hidden; row++) {
                    System.arraycopy(
                        weight, row * 2 * width + side * width, half, row * width, width);
                }
                feature = product(half, feature, hidden, width, rank);
            }
            if (!form.equals("full")) {
                feature = product(
                    feature, inputs[side * inputs.length / 2 + 1].floats, hidden, rank, in);
            }
            for (int i = 0; i < sum.length; i++) {
                sum[i] += feature[i];
            }
        }
        float[] m = new float[2 * in];
        for (int out = 0; out < 2; out++) {
            for (int column = 0; column < in; column++) {
                double value = outBias[out];
                for (int row = 0; row < hidden; row++) {
                    double lit = Math.max(0, sum[row * in + column] + bias[row]);
                    value += outWeight[out * hidden + row] * lit;
                }
                m[out * in + column] = (float) value;
            }
        }
        return Tensor.of(m, 2, in);
    }

    private static float[] product(float[] one, float[] other, int rows, int inner, int columns) {
        float[] result = new float[rows * columns];
        for (int row = 0; row < rows; row++) {
            for (int i = 0; i < inner; i++) {
                float factor = one[row * inner + i];
                for (int column = 0; column < columns; column++) {
                    result[row * columns + column] += factor * other[i * columns + column];
                }
            }
        }
        return result;
    }
}
