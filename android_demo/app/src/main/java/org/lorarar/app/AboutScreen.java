package org.lorarar.app;

import android.os.Bundle;
import android.view.ViewGroup;
import android.widget.TextView;
import java.io.IOException;
import org.lorarar.core.LorararException;

/** What the app is, and the licences of what it carries. */
public final class AboutScreen extends Screen {
    private static final String LICENCES = "licences";

    @Override
    int layout() {
        return R.layout.about;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        ViewGroup list = findView(R.id.licences);
        try {
            for (String name : getAssets().list(LICENCES)) {
                String title = name.replaceAll("\\.txt$", "");
                add(list, title + "\n\n" + Embedded.text(this, LICENCES + "/" + name));
            }
        } catch (LorararException error) {
            studio.say(error.getMessage());
        } catch (IOException error) {
            studio.say(getString(R.string.failed, error.getMessage()));
        }
    }

    private void add(ViewGroup list, String text) {
        TextView view = (TextView) getLayoutInflater().inflate(R.layout.licence, list, false);
        view.setText(text);
        list.addView(view);
    }
}
