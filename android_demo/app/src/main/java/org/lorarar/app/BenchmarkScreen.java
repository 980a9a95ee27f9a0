package org.lorarar.app;

import android.os.Bundle;
import android.view.View;
import android.widget.Button;
import android.widget.ProgressBar;
import java.io.File;
import java.nio.charset.StandardCharsets;
import org.lorarar.core.AtomicFile;
import org.lorarar.core.LorararException;

/** Measures this phone and shares the figures. */
public final class BenchmarkScreen extends Screen {
    private static final int WHOLE = 1000; // of the progress bar

    @Override
    int layout() {
        return R.layout.benchmark;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        listen(R.id.measure, R.id.share_json);
    }

    @Override
    void pressed(int button) {
        if (button == R.id.measure) {
            studio.benchmark();
        } else {
            shareFigures();
        }
    }

    @Override
    public void changed() {
        super.changed();
        boolean isMeasuring = studio.measuring();
        Button measure = findView(R.id.measure);
        measure.setEnabled(studio.ready() && !isMeasuring && !studio.drawing());
        ProgressBar bar = findView(R.id.progress);
        bar.setVisibility(isMeasuring ? View.VISIBLE : View.GONE);
        bar.setProgress(Math.round(studio.progress() * WHOLE));
        setText(R.id.figures, isMeasuring ? null : studio.benchmarkSummary());
        boolean hasFigures = !isMeasuring && studio.benchmarkJson() != null;
        findViewById(R.id.share_json).setVisibility(hasFigures ? View.VISIBLE : View.GONE);
    }

    private void shareFigures() {
        File file = new File(getCacheDir(), "lorarar-benchmark.json");
        try {
            AtomicFile.write(file, studio.benchmarkJson().getBytes(StandardCharsets.UTF_8));
        } catch (LorararException error) {
            studio.say(error.getMessage());
            return;
        }
        share(file, "application/json");
    }
}
