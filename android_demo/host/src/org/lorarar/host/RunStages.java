package org.lorarar.host;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.util.List;
import org.lorarar.core.LorararException;
import org.lorarar.core.Program;
import org.lorarar.core.Tensor;
import org.lorarar.engine.ExecuTorch;

/**
 * Runs programs on inputs that Python wrote.
 *
 * <p>Each line of the file named first: program, method, folder, number of inputs. The folder has
 * in0.shape ("float32 1 8 16 16") and in0.raw, little-endian; outputs go there as out0.raw.
 */
public final class RunStages {
    private RunStages() {}

    public static void main(String[] arguments) throws IOException {
        ExecuTorch engine = new ExecuTorch(1);
        for (String line : Files.readAllLines(new File(arguments[0]).toPath())) {
            String[] words = line.split("\t");
            try (Program program = engine.open(new File(words[0]))) {
                run(program, words[1], new File(words[2]), Integer.parseInt(words[3]));
            } catch (LorararException error) {
                System.out.println(error.getMessage());
            }
        }
    }

    private static void run(Program program, String method, File folder, int count)
            throws IOException {
        Tensor[] inputs = new Tensor[count];
        for (int i = 0; i < count; i++) {
            inputs[i] = read(folder, "in" + i);
        }
        Tensor[] outputs = program.run(method, inputs);
        for (int i = 0; i < outputs.length; i++) {
            float[] values = outputs[i].floats;
            ByteBuffer raw = ByteBuffer.allocate(4 * values.length);
            raw.order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(values);
            Files.write(new File(folder, "out" + i + ".raw").toPath(), raw.array());
        }
    }

    private static Tensor read(File folder, String name) throws IOException {
        List<String> lines = Files.readAllLines(new File(folder, name + ".shape").toPath());
        String[] words = lines.get(0).trim().split(" ");
        long[] shape = new long[words.length - 1];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = Long.parseLong(words[i + 1]);
        }
        ByteBuffer raw =
                ByteBuffer.wrap(Files.readAllBytes(new File(folder, name + ".raw").toPath()));
        raw.order(ByteOrder.LITTLE_ENDIAN);
        if (words[0].equals("int64")) {
            long[] values = new long[raw.remaining() / 8];
            raw.asLongBuffer().get(values);
            return Tensor.of(values, shape);
        }
        float[] values = new float[raw.remaining() / 4];
        raw.asFloatBuffer().get(values);
        return Tensor.of(values, shape);
    }
}
